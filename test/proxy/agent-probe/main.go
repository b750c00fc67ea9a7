// Asks the SSH agent at $SSH_AUTH_SOCK for its identities and prints how many it has.
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
)

func main() {
	agent, err := net.Dial("unix", os.Getenv("SSH_AUTH_SOCK"))
	check(err)
	// Length 1, SSH_AGENTC_REQUEST_IDENTITIES (RFC draft-miller-ssh-agent, 4.4).
	_, err = agent.Write([]byte{0, 0, 0, 1, 11})
	check(err)
	// Length, SSH_AGENT_IDENTITIES_ANSWER (12), number of keys.
	answer := make([]byte, 9)
	_, err = io.ReadFull(agent, answer)
	check(err)
	fmt.Printf("the agent holds %d identities\n", binary.BigEndian.Uint32(answer[5:]))
}

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
