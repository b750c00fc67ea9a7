module hearth.build/agent-probe

go 1.26
