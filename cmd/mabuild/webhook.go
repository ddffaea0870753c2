package main

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"golang.org/x/net/netutil"

	"github.com/mabuild/mabuild/internal/hint"
	"github.com/mabuild/mabuild/internal/kube"
	"github.com/mabuild/mabuild/internal/metrics"
	"github.com/mabuild/mabuild/internal/webhook"
	"github.com/mabuild/mabuild/manifest/registry"
)

// newWebhook returns the command webhook.
func newWebhook(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "webhook",
		Short: "Restrict pods to the platforms of their images when they are created",
		Long: `A mutating admission webhook for Kubernetes. It adds the architectures that all
images of a pod support to the node affinity of the pod. It never blocks and, without
--deny, never denies a pod.

Kubernetes 1.36 needs no webhook: see mabuild place --policy.`,
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newWebhookServe(a), newWebhookManifests(a))
	return cmd
}

// webhookOptions are the flags of webhook serve.
type webhookOptions struct {
	listen         string
	cert, key      string
	namespace      string
	serviceAccount string
	platforms      []string
	secrets        []string // namespaces whose pull secrets are read
	deny, tolerate bool
}

// newWebhookServe returns the command webhook serve.
func newWebhookServe(a *app) *cobra.Command {
	var o webhookOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the webhook",
		Long: `Serve the admission webhook over TLS. In a pod, its certificate is kept in the Secret
mabuild-webhook of its namespace and renewed. Elsewhere, use --tls-cert and --tls-key.`,
		Example: "  mabuild webhook serve\n  mabuild webhook serve --listen 127.0.0.1:8443 --tls-cert tls.crt --tls-key tls.key",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.start(cmd); err != nil {
				return err
			}
			return runWebhook(cmd.Context(), a, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.listen, "listen", ":8443", "Listen on `HOST:PORT`")
	f.StringVar(&o.cert, "tls-cert", "", "Use the certificate in the PEM file `FILE`")
	f.StringVar(&o.key, "tls-key", "", "Use the key in the PEM file `FILE`")
	f.StringVar(&o.namespace, "namespace", "", "Keep the certificate in this `NAMESPACE` (default: that of the pod)")
	f.StringVar(&o.serviceAccount, "service-account", "/var/run/secrets/kubernetes.io/serviceaccount", "Read the service account from `DIR`")
	f.StringSliceVar(&o.platforms, "platform", nil, "Leave pods as they are whose images support all these `PLATFORMS` (default: restrict every pod)")
	f.StringSliceVar(&o.secrets, "pull-secrets", nil, "Read images of pods in these `NAMESPACES` with the imagePullSecrets that the pods name")
	f.BoolVar(&o.deny, "deny", false, "Deny pods whose images have no platform in common, instead of a warning")
	f.BoolVar(&o.tolerate, "tolerate", false, "Tolerate the taint kubernetes.io/arch of the architectures")
	return cmd
}

// runWebhook serves until ctx ends.
func runWebhook(ctx context.Context, a *app, o webhookOptions) error {
	var api *webhook.API
	var err error
	if o.cert == "" || len(o.secrets) > 0 {
		if api, err = webhook.InCluster(o.serviceAccount, os.Getenv); err != nil {
			return &hint.Error{Kind: hint.Usage, Err: err, Hint: "outside of a cluster, use --tls-cert and --tls-key, and no --pull-secrets"}
		}
	}
	h := &webhook.Handler{
		Deny: o.deny, Placing: kube.Placing{Tolerate: o.tolerate}, Log: a.log,
		Images:  &webhook.Cache{Lookup: a.lookup(api), Namespaces: o.secrets},
		Metrics: metrics.New(),
	}
	if len(o.platforms) > 0 {
		if h.Nodes, err = kube.ParsePlatforms(o.platforms); err != nil {
			return err
		}
	}
	certificate, ready, err := o.certificate(ctx, a, api)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("POST /place", h)
	mux.Handle("GET /metrics", h.Metrics)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !ready() {
			http.Error(w, "no certificate", http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ok")
	})
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.listen)
	if err != nil {
		return usage("for example --listen :8443", "--listen: %s", err)
	}
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certificate},
		ErrorLog:  log.New(debugWriter{a.log}, "", 0),
	}
	a.log.InfoContext(ctx, "listening", "address", l.Addr().String())
	ended := make(chan error, 1)
	go func() { ended <- server.ServeTLS(netutil.LimitListener(l, 512), "", "") }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		// Reviews in progress are answered.
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if err = server.Shutdown(end); errors.Is(err, context.DeadlineExceeded) {
			err = server.Close()
		}
	}
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return err
}

// debugWriter logs the errors of single connections.
type debugWriter struct{ log *slog.Logger }

func (w debugWriter) Write(b []byte) (int, error) {
	w.log.Debug(strings.TrimSpace(string(b)))
	return len(b), nil
}

// certificate returns the function that gives connections their certificate, and one that
// says whether there is one.
func (o *webhookOptions) certificate(ctx context.Context, a *app, api *webhook.API) (get func(*tls.ClientHelloInfo) (*tls.Certificate, error), ready func() bool, err error) {
	if (o.cert == "") != (o.key == "") {
		return nil, nil, usage("add the other one", "--tls-cert and --tls-key belong together")
	}
	if o.cert != "" {
		if _, err := tls.LoadX509KeyPair(o.cert, o.key); err != nil {
			return nil, nil, usage("use PEM files of a certificate and its key", "--tls-cert: %s", err)
		}
		// The files are read again for each connection, since cert-manager and others replace
		// them. The API server keeps its connections.
		return func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(o.cert, o.key)
			return &pair, err
		}, func() bool { return true }, nil
	}
	if o.namespace == "" {
		name, err := os.ReadFile(filepath.Join(o.serviceAccount, "namespace"))
		if err != nil {
			return nil, nil, usage("use --namespace", "the namespace of the pod is not known: %s", err)
		}
		o.namespace = strings.TrimSpace(string(name))
	}
	service := webhook.ServiceName + "." + o.namespace + ".svc"
	k := &webhook.Keeper{API: api, Namespace: o.namespace, Secret: webhook.ServiceName, Configuration: webhook.ConfigurationName, Names: []string{service, service + ".cluster.local"}, Log: a.log}
	go k.Run(ctx)
	return k.Certificate, k.Ready, nil
}

// lookup returns the function that reads the platforms of an image, with the pull secrets that
// api returns. Each lookup has a client of its own, because a client believes for its lifetime
// what a tag named; all share the limits of the hosts.
func (a *app) lookup(api *webhook.API) func(context.Context, webhook.Pull) ([]ocispec.Platform, error) {
	limits := new(registry.Limits)
	return func(ctx context.Context, p webhook.Pull) ([]ocispec.Platform, error) {
		var logins []kube.Login
		if p.Secrets != "" {
			var err error
			if logins, err = api.PullSecrets(ctx, p.Namespace, strings.Split(p.Secrets, ",")); err != nil {
				return nil, err
			}
		}
		client := a.newClient()
		client.Limits = limits
		image, err := (&kube.Images{Source: a.withSecrets(client, logins)}).Get(ctx, p.Image)
		if err != nil {
			return nil, err
		}
		return image.Have, nil
	}
}

// newWebhookManifests returns the command webhook manifests.
func newWebhookManifests(a *app) *cobra.Command {
	m := webhook.Manifests{}
	var authority string
	cmd := &cobra.Command{
		Use:   "manifests --image IMAGE",
		Short: "Print the Kubernetes manifests of the webhook",
		Long: `Print all that the webhook needs in a cluster: namespace, service account, rights,
Deployment, Service and webhook configuration. Its rights are its own Secret and its
own webhook configuration. IMAGE is an image with mabuild as its entrypoint.`,
		Example: "  mabuild webhook manifests --image registry.example/mabuild:v1 | kubectl apply -f -",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case m.URL == "" && !kube.IsReference(m.Image):
				return usage("for example --image registry.example/mabuild:v1", "--image: the name of mabuild's image is required")
			case m.URL != "" && (!strings.HasPrefix(m.URL, "https://") || authority == ""):
				return usage("for example --url https://10.0.0.1:8443/place --authority ca.crt", "--url requires https and --authority")
			case !webhook.IsNamespace(m.Namespace):
				return usage("use a-z, 0-9 and -", "--namespace %q is no name of a namespace", m.Namespace)
			case slices.ContainsFunc(m.PullSecrets, func(n string) bool { return !webhook.IsNamespace(n) }):
				return usage("use a-z, 0-9 and -", "--pull-secrets %q: not the names of namespaces", strings.Join(m.PullSecrets, ","))
			case m.Replicas < 1:
				return usage("use at least 1", "--replicas %d", m.Replicas)
			}
			if authority != "" {
				pem, err := os.ReadFile(authority)
				if err != nil {
					return usage("use a PEM file", "--authority: %s", err)
				}
				m.Bundle = base64.StdEncoding.EncodeToString(pem)
			}
			m.Args = append([]string{"webhook", "serve"}, m.Args...)
			if len(m.PullSecrets) > 0 {
				m.Args = append(m.Args, "--pull-secrets="+strings.Join(m.PullSecrets, ","))
			}
			return m.Write(a.stdout)
		},
	}
	f := cmd.Flags()
	f.StringVar(&m.Image, "image", "", "Run this `IMAGE` of mabuild")
	f.StringVar(&m.Namespace, "namespace", "mabuild-system", "Install into this `NAMESPACE`")
	f.IntVar(&m.Replicas, "replicas", 2, "Run this many replicas")
	f.StringVar(&m.Credentials, "credentials", "", "Use the credentials of registries in this `SECRET` of type kubernetes.io/dockerconfigjson")
	f.StringSliceVar(&m.PullSecrets, "pull-secrets", nil, "Read the imagePullSecrets of pods in these `NAMESPACES`, with the right to read their Secrets")
	f.StringArrayVar(&m.Args, "serve-flag", nil, "Pass this `FLAG` to webhook serve, for example --deny")
	f.StringVar(&m.URL, "url", "", "Use a webhook outside of the cluster at this `URL`")
	f.StringVar(&authority, "authority", "", "With --url, trust the certificate authority in the PEM file `FILE`")
	return cmd
}
