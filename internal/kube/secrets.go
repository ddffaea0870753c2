package kube

import (
	"encoding/base64"
	"encoding/json"
	"strings"
)

// A Login is a user and password of a registry.
type Login struct{ Host, Username, Password string }

// Logins returns the credentials in the Secrets of type kubernetes.io/dockerconfigjson of
// the file, those that pods name as imagePullSecrets. Of the configuration of Docker in
// them only auths counts: a Secret of others must not name a program to run.
func (f *File) Logins() []Login {
	var all []Login
	for _, doc := range f.Docs {
		if doc.skimmed {
			all = append(all, doc.logins...)
		} else {
			all = append(all, doc.findLogins()...)
		}
	}
	return all
}

func (d *Document) findLogins() []Login {
	var all []Login
	for _, object := range d.Objects() {
		kind, group := Kind(object)
		if kind != "Secret" || group != "" || textOf(lookup(object, "type")) != "kubernetes.io/dockerconfigjson" {
			continue
		}
		const key = ".dockerconfigjson"
		content := []byte(textOf(at(object, "stringData", key)))
		if encoded := textOf(at(object, "data", key)); encoded != "" {
			content, _ = base64.StdEncoding.DecodeString(strings.Join(strings.Fields(encoded), ""))
		}
		var config struct {
			Auths map[string]struct{ Username, Password, Auth string }
		}
		if json.Unmarshal(content, &config) != nil {
			continue // the kubelet cannot use it either
		}
		for name, login := range config.Auths {
			if pair, err := base64.StdEncoding.DecodeString(login.Auth); err == nil && login.Username == "" {
				login.Username, login.Password, _ = strings.Cut(string(pair), ":")
			}
			_, host, ok := strings.Cut(name, "://")
			if !ok {
				host = name
			}
			host, _, _ = strings.Cut(host, "/")
			if host != "" && login.Username != "" {
				all = append(all, Login{host, login.Username, login.Password})
			}
		}
	}
	return all
}
