// Command helm is helm as it is, built beside the other programs that share most of its dependencies.
package main

import (
	"errors"
	"fmt"
	"os"

	"helm.sh/helm/v4/pkg/cmd"
	"helm.sh/helm/v4/pkg/kube"
)

func main() {
	kube.ManagedFieldsManager = "helm" // whatever this file is called
	root, err := cmd.NewRootCmd(os.Stdout, os.Args[1:], cmd.SetupLogging)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := root.Execute(); err != nil {
		code := 1
		var failure cmd.CommandError
		if errors.As(err, &failure) {
			code = failure.ExitCode
		}
		os.Exit(code)
	}
}
