package kube

import (
	"encoding/base64"
	"encoding/json"
	"path"
	"slices"
	"strings"
)

// A Login is a user and password for the images that Pattern matches: HOST[:PORT][/PATH],
// whose host may have * and ? in each of its labels.
type Login struct{ Pattern, Username, Password string }

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

// MatchLogins returns the logins that the kubelet would try for a repository, in its order:
// longer patterns of the same host first. A login that is there twice is returned once.
// Kubernetes documents the rules in "Images: Interpretation of config.json".
func MatchLogins(all []Login, repository string) []Login {
	var found []Login
	for _, l := range all {
		if l.matches(repository) && !slices.Contains(found, l) {
			found = append(found, l)
		}
	}
	slices.SortStableFunc(found, func(a, b Login) int { return strings.Compare(b.Pattern, a.Pattern) })
	return found
}

// matches compares labels of the host one by one, the port, and the beginning of the path.
func (l Login) matches(repository string) bool {
	host, repo, _ := strings.Cut(repository, "/")
	pattern, prefix, _ := strings.Cut(l.Pattern, "/")
	if !strings.HasPrefix(repo, prefix) {
		return false
	}
	host, port, _ := strings.Cut(host, ":")
	pattern, wantPort, _ := strings.Cut(pattern, ":")
	if host == "index.docker.io" {
		host = "docker.io"
	}
	if pattern == "index.docker.io" {
		pattern = "docker.io"
	}
	labels, wanted := strings.Split(host, "."), strings.Split(pattern, ".")
	if port != wantPort || len(labels) != len(wanted) {
		return false
	}
	for i, label := range labels {
		if ok, err := path.Match(wanted[i], label); err != nil || !ok {
			return false
		}
	}
	return true
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
			_, pattern, ok := strings.Cut(name, "://")
			if !ok {
				pattern = name
			}
			host, prefix, _ := strings.Cut(pattern, "/")
			if version, rest, _ := strings.Cut(prefix, "/"); version == "v1" || version == "v2" { // as docker login wrote it once
				prefix = rest
			}
			if host != "" && login.Username != "" {
				all = append(all, Login{strings.TrimSuffix(host+"/"+prefix, "/"), login.Username, login.Password})
			}
		}
	}
	return all
}
