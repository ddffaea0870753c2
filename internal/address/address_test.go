package address

import (
	"net/netip"
	"testing"
)

func TestAddresses(t *testing.T) {
	for text, want := range map[string]string{
		"169.254.169.254": "never", "fe80::1": "never", "::ffff:169.254.169.254": "never", "64:ff9b::a9fe:a9fe": "never",
		"fd00:ec2::254": "never", "100.100.100.200": "never", "224.0.0.1": "never",
		"127.0.0.1": "led", "::1": "led", "::ffff:127.0.0.1": "led", "10.1.2.3": "led", "192.168.0.1": "led",
		"0.0.0.0": "led", "fd12::1": "led", "100.64.0.1": "led", "64:ff9b::7f00:1": "led", "2002:a00:1::": "led",
		"1.1.1.1": "always", "2606:4700::1111": "always",
	} {
		ip := netip.MustParseAddr(text)
		open, strict := Check(ip, false) == nil, Check(ip, true) == nil
		if open != (want != "never") || strict != (want == "always") {
			t.Errorf("%s: %t, %t; want %s", text, open, strict, want)
		}
	}
}
