// Renders a chart as Helm does, with the engine that Helm uses: Go's text/template, sprig's functions, and the few that
// Helm adds (include, required, toYaml).
//
//	render CHART RELEASE NAMESPACE VALUES.yaml
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"gopkg.in/yaml.v3"
)

// The Kubernetes that manifests are rendered for, unless KUBE_VERSION names another.
func version() string {
	if given := os.Getenv("KUBE_VERSION"); given != "" {
		return given
	}
	return "v1.34.0"
}

func read(path string) map[string]interface{} {
	found := map[string]interface{}{}
	data, err := os.ReadFile(path)
	fail(err)
	fail(yaml.Unmarshal(data, &found))
	return found
}

func merge(base, over map[string]interface{}) map[string]interface{} {
	for key, value := range over {
		under, isMap := base[key].(map[string]interface{})
		above, alsoMap := value.(map[string]interface{})
		if isMap && alsoMap {
			base[key] = merge(under, above)
		} else {
			base[key] = value
		}
	}
	return base
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	chart, release, namespace, values := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	about := read(filepath.Join(chart, "Chart.yaml"))
	data := map[string]interface{}{
		"Values":       merge(read(filepath.Join(chart, "values.yaml")), read(values)),
		"Release":      map[string]interface{}{"Name": release, "Namespace": namespace, "Service": "Helm"},
		"Capabilities": map[string]interface{}{"KubeVersion": map[string]interface{}{"Version": version()}},
		"Chart":        map[string]interface{}{"Name": about["name"], "AppVersion": about["appVersion"], "Version": about["version"]},
	}
	all := template.New("chart").Option("missingkey=zero")
	functions := sprig.TxtFuncMap()
	delete(functions, "env")
	delete(functions, "expandenv")
	functions["include"] = func(name string, data interface{}) (string, error) {
		var text strings.Builder
		err := all.ExecuteTemplate(&text, name, data)
		return text.String(), err
	}
	functions["required"] = func(message string, value interface{}) (interface{}, error) {
		if value == nil || value == "" {
			return nil, errors.New(message)
		}
		return value, nil
	}
	functions["toYaml"] = func(value interface{}) (string, error) {
		text, err := yaml.Marshal(value)
		return strings.TrimSuffix(string(text), "\n"), err
	}
	all.Funcs(functions)
	files, err := filepath.Glob(filepath.Join(chart, "templates", "*"))
	fail(err)
	sort.Strings(files)
	for _, path := range files {
		text, err := os.ReadFile(path)
		fail(err)
		_, err = all.New(filepath.Base(path)).Parse(string(text))
		fail(err)
	}
	for _, path := range files {
		if filepath.Ext(path) == ".yaml" {
			var text strings.Builder
			fail(all.ExecuteTemplate(&text, filepath.Base(path), data))
			if strings.TrimSpace(text.String()) != "" {
				fmt.Printf("---\n# Source: %s\n%s\n", filepath.Base(path), strings.TrimSpace(text.String()))
			}
		}
	}
}
