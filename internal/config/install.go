package config

import (
	"slices"
	"strings"
)

// Installation is what -i and -u ask for on Windows.
type Installation struct {
	Name   string
	Remove bool
	// Args are all other words, as they were given and in their order: the service
	// starts with them. There may be none.
	Args []string
}

// Windows allows no more for the name of a service.
const serviceNameMax = 256

// installOption is -i.
func installOption(a *arguments, name string) {
	if !a.windows {
		a.fail("", "Windows only", "")
		return
	}
	a.installs(Installation{Name: name})
}

// userOption is -u. On Windows, where a process can not become another user, the
// letter has always meant something else.
func userOption(a *arguments, name string) {
	if !a.windows {
		textOption("user")(a, name)
		return
	}
	a.installs(Installation{Name: name, Remove: true})
}

func (a *arguments) installs(i Installation) {
	a.taken = true
	switch {
	case a.Install != nil:
		a.misused("", "only one service is installed or removed at a time")
	case i.Name == "" || len(i.Name) > serviceNameMax || strings.ContainsAny(i.Name, `/\`) || !printableLine(i.Name):
		a.misused("", "the name of a service has 1 to 256 characters, and none of them is / or \\")
	}
	a.Install = &i
}

// store keeps the words that the service starts with: all but -i and its name.
func (a *arguments) store(words []string) {
	if a.taken {
		words = nil
		if a.before != "" {
			words = []string{"-" + a.before}
		}
	}
	a.taken = false
	a.stored = append(a.stored, words...)
}

// installation finds what does not go together with -i and -u.
func (a *arguments) installation() {
	if a.Install == nil {
		return
	}
	a.Install.Args = slices.Clip(a.stored)
	switch {
	case a.Install.Remove && len(a.stored) > 0:
		a.misused("-u", "removes a service on Windows, and takes no other word; a process can not become another user here")
	case a.Check || a.Help || a.Version || a.Genkey || a.Release || a.Completion != "":
		a.misused("-i", "installs a service that serves, which none does with an option that only looks")
	}
}
