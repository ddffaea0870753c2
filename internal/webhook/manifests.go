package webhook

import (
	_ "embed"
	"io"
	"text/template"
)

// Manifests are the choices in the manifests of the webhook.
type Manifests struct {
	Namespace   string
	Image       string
	Replicas    int
	Args        []string // of the container
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

//go:embed manifests.yaml
var manifests string

// Write prints the manifests.
func (m Manifests) Write(w io.Writer) error {
	return template.Must(template.New("manifests").Parse(manifests)).Execute(w, m)
}
