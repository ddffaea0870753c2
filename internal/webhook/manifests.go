package webhook

import (
	_ "embed"
	"io"
	"regexp"
	"text/template"
)

// Manifests are the choices in the manifests of the webhook.
type Manifests struct {
	Namespace   string
	Image       string
	Replicas    int
	Args        []string // of the container
	PullSecrets []string // namespaces in which it may read Secrets
	Credentials string   // Secret of type kubernetes.io/dockerconfigjson; "" means none
	// URL is that of a webhook outside of the cluster, and Bundle its authority in base64;
	// "" means the Service.
	URL, Bundle string
}

// The names that the manifests use.
const (
	ConfigurationName = "platforms.mabuild.dev"
	ServiceName       = "mabuild-webhook" // also of the Secret
)

var namespace = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// IsNamespace reports whether a text can be the name of a namespace (RFC 1123, a label).
func IsNamespace(text string) bool { return namespace.MatchString(text) }

//go:embed manifests.yaml
var manifests string

// Write prints the manifests.
func (m Manifests) Write(w io.Writer) error {
	return template.Must(template.New("manifests").Parse(manifests)).Execute(w, m)
}
