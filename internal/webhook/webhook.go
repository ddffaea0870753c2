// Package webhook is a mutating admission webhook of Kubernetes (admission.k8s.io/v1) that
// restricts pods to the architectures of their images.
//
// It never blocks: it answers within [Handler.Budget], with the pod unchanged and a warning
// if an image is not known by then, while the lookup goes on for the next pod. It never
// denies a pod unless [Handler.Deny] is set, and it only narrows: what it adds is what
// mabuild place writes into a file, by the same function. A pod is read as a document and
// changed by a JSON patch, so fields that this version does not know survive.
package webhook

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/mabuild/mabuild/internal/guard"
	"github.com/mabuild/mabuild/internal/kube"
	"github.com/mabuild/mabuild/internal/metrics"
	"github.com/mabuild/mabuild/internal/text"
)

// A Handler answers the reviews of the API server. Its fields must not change after the
// first request. It is safe for concurrent use.
type Handler struct {
	Images *Cache
	// Nodes are those of the cluster, if they are known: a pod whose images run on all of
	// them stays as it is. nil restricts every pod.
	Nodes   []*kube.Node
	Placing kube.Placing
	Budget  time.Duration // for one review; 0 means 800 ms
	Deny    bool          // refuse pods whose images have no platform in common
	Log     *slog.Logger
	Metrics metrics.Set
}

const (
	// usualBudget leaves time for the network within the timeout of the webhook, 2 s.
	usualBudget = 800 * time.Millisecond
	// maxReview is larger than any object that the API server stores.
	maxReview = 8 << 20
)

// The metrics. docs/kubernetes.md says what they count.
const (
	reviewsTotal  = "mabuild_webhook_reviews_total"
	reviewSeconds = "mabuild_webhook_review_seconds"
)

// A review is an AdmissionReview as far as it is needed here.
type review struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Request    *request  `json:"request,omitempty"`
	Response   *response `json:"response,omitempty"`
}

type request struct {
	UID       string          `json:"uid"`
	Namespace string          `json:"namespace"`
	Object    json.RawMessage `json:"object"`
}

type response struct {
	UID       string   `json:"uid"`
	Allowed   bool     `json:"allowed"`
	Status    *status  `json:"status,omitempty"`
	Patch     []byte   `json:"patch,omitempty"`
	PatchType string   `json:"patchType,omitempty"`
	Warnings  []string `json:"warnings,omitempty"`
}

type status struct {
	Message string `json:"message"`
	Code    int    `json:"code"`
}

// ServeHTTP answers one review. What cannot be read is answered with 400, which the API
// server treats by the failure policy.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReview))
	var in review
	if err == nil {
		err = json.Unmarshal(body, &in)
	}
	if err == nil && (in.Request == nil || in.Request.UID == "") {
		err = errors.New("the review has no request")
	}
	if err != nil {
		h.Metrics.Counter(reviewsTotal, "result", "invalid").Inc()
		http.Error(w, "not an AdmissionReview: "+text.Line(err.Error(), 200), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), cmp.Or(h.Budget, usualBudget))
	defer cancel()
	out := &response{UID: in.Request.UID, Allowed: true}
	result := "unchanged"
	// A panic must not keep a pod from starting.
	if err := guard.Report(ctx, h.Log, "review", func() (err error) { result, err = h.answer(ctx, in.Request, out); return err }); err != nil {
		result = "unknown"
		out.Patch, out.PatchType, out.Allowed = nil, "", true
		out.Warnings = append(out.Warnings, warning(err))
	}
	h.Metrics.Counter(reviewsTotal, "result", result).Inc()
	h.Metrics.Histogram(reviewSeconds, .0005, .001, .005, .02, .1, .4, .8, 1).UpdateDuration(began)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(review{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview", Response: out}) // the connection is gone then
}

// warning is the text that kubectl shows. The API server cuts it after 256 bytes.
func warning(err error) string { return "mabuild: not placed: " + text.Line(err.Error(), 220) }

// answer fills the response for a pod and returns the result for the metrics. An error means
// that the pod stays as it is.
func (h *Handler) answer(ctx context.Context, in *request, out *response) (string, error) {
	f, err := kube.Parse("pod", in.Object)
	if err != nil {
		return "", err
	}
	var w *kube.Workload
	for _, one := range f.Workloads() {
		if one.Certainty == kube.Certain && one.Kind == "Pod" {
			w = one
		}
	}
	// The controller of a DaemonSet has chosen a node, and would make the pod again for ever.
	if w == nil || w.Owner == "DaemonSet" || w.Annotations[kube.AnnotationPlace] == "false" {
		return "unchanged", nil
	}
	supported, err := h.Images.Supported(ctx, in.Namespace, w)
	if err != nil {
		return "", err
	}
	placing := h.Placing
	placing.Always = placing.Always || len(h.Nodes) == 0
	patches, err := kube.Place(w, supported, h.Nodes, placing)
	if err != nil {
		if h.Deny {
			out.Allowed, out.Status = false, &status{Message: "mabuild: " + err.Error(), Code: http.StatusForbidden}
			return "denied", nil
		}
		out.Warnings = append(out.Warnings, warning(err))
		return "unchanged", nil
	}
	if len(patches) == 0 {
		return "unchanged", nil
	}
	if out.Patch, err = kube.JSONPatch(patches); err != nil {
		return "", err
	}
	out.PatchType = "JSONPatch"
	return "placed", nil
}
