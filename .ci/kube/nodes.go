package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	coordination "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	genericserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
)

// nodesCommand stands in for the kubelets of machines that are not there: it registers a node for
// each argument, renews its lease, and lets what the scheduler puts there seem to run.
//
//	kube-nodes --kubeconfig F amd-1=linux/amd64 arm-1=linux/arm64,taint:kubernetes.io/arch=arm64:NoSchedule win-1=windows/amd64
func nodesCommand() *cobra.Command {
	var kubeconfig string
	c := &cobra.Command{
		Use: "kube-nodes NAME=OS/ARCH[,KEY=VALUE][,taint:KEY=VALUE:EFFECT]…", SilenceUsage: true,
		RunE: func(_ *cobra.Command, args []string) error {
			config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
			if err != nil {
				return err
			}
			config.QPS, config.Burst = 200, 400
			client, err := kubernetes.NewForConfig(config)
			if err != nil {
				return err
			}
			f := &farm{client: client, nodes: map[string]*v1.Node{}}
			for _, arg := range args {
				n, err := parseNode(arg)
				if err != nil {
					return err
				}
				f.nodes[n.Name] = n
			}
			return f.run(genericserver.SetupSignalContext())
		},
	}
	c.Flags().StringVar(&kubeconfig, "kubeconfig", "", "")
	return c
}

type farm struct {
	client kubernetes.Interface
	nodes  map[string]*v1.Node
}

func parseNode(arg string) (*v1.Node, error) {
	name, rest, ok := strings.Cut(arg, "=")
	fields := strings.Split(rest, ",")
	os, arch, ok2 := strings.Cut(fields[0], "/")
	if !ok || !ok2 {
		return nil, fmt.Errorf("%q is not NAME=OS/ARCH", arg)
	}
	n := &v1.Node{ObjectMeta: meta.ObjectMeta{Name: name, Labels: map[string]string{
		"kubernetes.io/arch": arch, "kubernetes.io/os": os, "kubernetes.io/hostname": name,
		"beta.kubernetes.io/arch": arch, "beta.kubernetes.io/os": os,
	}, Annotations: map[string]string{"lab.mabuild.dev/simulated": "true"}}}
	for _, field := range fields[1:] {
		if taint, is := strings.CutPrefix(field, "taint:"); is {
			kv, effect, _ := strings.Cut(taint, ":")
			key, value, _ := strings.Cut(kv, "=")
			n.Spec.Taints = append(n.Spec.Taints, v1.Taint{Key: key, Value: value, Effect: v1.TaintEffect(effect)})
			continue
		}
		key, value, _ := strings.Cut(field, "=")
		n.Labels[key] = value
	}
	room := v1.ResourceList{
		v1.ResourceCPU: resource.MustParse("16"), v1.ResourceMemory: resource.MustParse("64Gi"),
		v1.ResourcePods: resource.MustParse("110"), v1.ResourceEphemeralStorage: resource.MustParse("100Gi"),
	}
	n.Status = v1.NodeStatus{
		Capacity: room, Allocatable: room,
		NodeInfo: v1.NodeSystemInfo{Architecture: arch, OperatingSystem: os, KubeletVersion: "v0.0.0-simulated", ContainerRuntimeVersion: "simulated://0"},
	}
	return n, nil
}

func (f *farm) run(ctx context.Context) error {
	for _, n := range f.nodes {
		// The node controller changes new nodes at the same time.
		if err := retry.RetryOnConflict(retry.DefaultBackoff, func() error { return f.register(ctx, n) }); err != nil {
			return err
		}
	}
	watch := cache.NewListWatchFromClient(f.client.CoreV1().RESTClient(), "pods", meta.NamespaceAll, fields.Everything())
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: watch, ObjectType: &v1.Pod{}, ResyncPeriod: 2 * time.Second,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { f.pod(ctx, o.(*v1.Pod)) },
			UpdateFunc: func(_, o any) { f.pod(ctx, o.(*v1.Pod)) },
		},
	})
	go informer.RunWithContext(ctx)
	for {
		for name := range f.nodes {
			f.lease(ctx, name)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(10 * time.Second):
		}
	}
}

// register makes the node, or brings it back to what was asked for, and says that it is ready.
func (f *farm) register(ctx context.Context, n *v1.Node) error {
	nodes := f.client.CoreV1().Nodes()
	is, err := nodes.Create(ctx, n, meta.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		if is, err = nodes.Get(ctx, n.Name, meta.GetOptions{}); err == nil {
			is.Labels, is.Annotations, is.Spec.Taints = n.Labels, n.Annotations, n.Spec.Taints
			is, err = nodes.Update(ctx, is, meta.UpdateOptions{})
		}
	}
	if err != nil {
		return err
	}
	is.Status = n.Status
	for condition, status := range map[v1.NodeConditionType]v1.ConditionStatus{
		v1.NodeReady:          v1.ConditionTrue,
		v1.NodeMemoryPressure: v1.ConditionFalse, v1.NodeDiskPressure: v1.ConditionFalse, v1.NodePIDPressure: v1.ConditionFalse,
	} {
		is.Status.Conditions = append(is.Status.Conditions, v1.NodeCondition{
			Type: condition, Status: status, Reason: "Hollow",
			LastHeartbeatTime: meta.Now(), LastTransitionTime: meta.Now(),
		})
	}
	_, err = nodes.UpdateStatus(ctx, is, meta.UpdateOptions{})
	return err
}

func (f *farm) lease(ctx context.Context, name string) {
	leases, now := f.client.CoordinationV1().Leases(v1.NamespaceNodeLease), meta.NewMicroTime(time.Now())
	l, err := leases.Get(ctx, name, meta.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, _ = leases.Create(ctx, &coordination.Lease{
			ObjectMeta: meta.ObjectMeta{Name: name},
			Spec:       coordination.LeaseSpec{HolderIdentity: &name, LeaseDurationSeconds: ptr.To[int32](40), RenewTime: &now},
		}, meta.CreateOptions{})
		return
	}
	if err == nil {
		l.Spec.RenewTime = &now
		_, _ = leases.Update(ctx, l, meta.UpdateOptions{})
	}
}

// pod does what the kubelet of its node would report. A pod that may end does so, well, after two seconds.
func (f *farm) pod(ctx context.Context, p *v1.Pod) {
	if f.nodes[p.Spec.NodeName] == nil {
		return
	}
	pods := f.client.CoreV1().Pods(p.Namespace)
	if p.DeletionTimestamp != nil {
		_ = pods.Delete(ctx, p.Name, meta.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0), Preconditions: &meta.Preconditions{UID: &p.UID}})
		return
	}
	phase := v1.PodRunning
	switch {
	case p.Status.Phase == v1.PodSucceeded || p.Status.Phase == v1.PodFailed:
		return
	case p.Status.Phase == v1.PodRunning && p.Spec.RestartPolicy != v1.RestartPolicyAlways && time.Since(p.Status.StartTime.Time) > 2*time.Second:
		phase = v1.PodSucceeded
	case p.Status.Phase == v1.PodRunning:
		return
	}
	p = p.DeepCopy()
	now, ready := meta.Now(), v1.ConditionTrue
	if p.Status.StartTime == nil {
		p.Status.StartTime = &now
	}
	if phase != v1.PodRunning {
		ready = v1.ConditionFalse
	}
	p.Status.Phase, p.Status.Conditions, p.Status.ContainerStatuses = phase, nil, nil
	for _, t := range []v1.PodConditionType{v1.PodInitialized, v1.PodReady, v1.ContainersReady, v1.PodScheduled} {
		status := v1.ConditionTrue
		if t == v1.PodReady || t == v1.ContainersReady {
			status = ready
		}
		p.Status.Conditions = append(p.Status.Conditions, v1.PodCondition{Type: t, Status: status, LastTransitionTime: now})
	}
	for _, c := range p.Spec.Containers {
		s := v1.ContainerStatus{Name: c.Name, Image: c.Image, ImageID: c.Image, Ready: phase == v1.PodRunning}
		if phase == v1.PodRunning {
			s.State.Running = &v1.ContainerStateRunning{StartedAt: now}
		} else {
			s.State.Terminated = &v1.ContainerStateTerminated{Reason: "Completed", StartedAt: *p.Status.StartTime, FinishedAt: now}
		}
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, s)
	}
	_, _ = pods.UpdateStatus(ctx, p, meta.UpdateOptions{})
}
