//go:build linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	yamldocs "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/gracefulgo/graceful/internal/process"
)

// These are the figures in the comments of deployment.yaml.
const (
	longestRequest = 15 * time.Second
	propagation    = 2 * time.Second // of the news that a pod is not ready
	afterTimeout   = 5 * time.Second // until the SIGKILL
)

type manifests struct {
	deployment appsv1.Deployment
	service    corev1.Service
	budget     policyv1.PodDisruptionBudget
}

// readManifests fails on unknown and on duplicate fields.
func readManifests(t *testing.T) (m manifests) {
	t.Helper()
	text, err := os.ReadFile("deployment.yaml")
	if err != nil {
		t.Fatal(err)
	}
	missing := map[string]any{"Deployment": &m.deployment, "Service": &m.service,
		"PodDisruptionBudget": &m.budget}
	for docs := yamldocs.NewYAMLReader(bufio.NewReader(bytes.NewReader(text))); ; {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		var meta metav1.TypeMeta
		if err := yaml.Unmarshal(doc, &meta); err != nil {
			t.Fatal(err)
		}
		object, ok := missing[meta.Kind]
		if !ok {
			t.Fatalf("unexpected, or a second, %s", meta.Kind)
		}
		delete(missing, meta.Kind)
		if err := yaml.UnmarshalStrict(doc, object); err != nil {
			t.Fatalf("%s: %v", meta.Kind, err)
		}
	}
	if len(missing) > 0 {
		t.Fatalf("%v are missing", slices.Sorted(maps.Keys(missing)))
	}
	for got, want := range map[string]string{
		m.deployment.APIVersion: "apps/v1",
		m.service.APIVersion:    "v1",
		m.budget.APIVersion:     "policy/v1",
	} {
		if got != want {
			t.Errorf("apiVersion: %v, want %v", got, want)
		}
	}
	if n := len(m.deployment.Spec.Template.Spec.Containers); n != 1 {
		t.Fatalf("%d containers, want 1", n)
	}
	return m
}

func TestDeploymentTimes(t *testing.T) {
	pod := readManifests(t).deployment.Spec.Template.Spec
	c := pod.Containers[0]
	var delay, timeout time.Duration
	flags := flag.NewFlagSet("server", flag.ContinueOnError)
	flags.DurationVar(&delay, "delay", 0, "")
	flags.DurationVar(&timeout, "timeout", 0, "")
	for _, other := range []string{"addr", "admin", "journal"} {
		flags.String(other, "", "")
	}
	if err := flags.Parse(c.Args); err != nil || flags.NArg() > 0 {
		t.Fatalf("args %q: %v, and %q are left", c.Args, err, flags.Args())
	}

	if c.ReadinessProbe == nil {
		t.Fatal("no readinessProbe")
	}
	probe, seconds := c.ReadinessProbe, func(n int32) time.Duration {
		return time.Duration(n) * time.Second
	}
	detection := seconds(probe.PeriodSeconds*probe.FailureThreshold + probe.TimeoutSeconds)
	if probe.PeriodSeconds < 1 || probe.FailureThreshold < 1 || probe.TimeoutSeconds < 1 {
		t.Errorf("readinessProbe: %+v, want all times to be there", probe)
	}
	if want := detection + propagation; delay < want {
		t.Errorf("-delay=%v, want %v or more", delay, want)
	}
	if most := timeout * 4 / 5; delay > most {
		t.Errorf("-delay=%v, want %v, 4/5 of -timeout, or less", delay, most)
	}
	if share := (timeout - delay) * 4 / 5; share < longestRequest {
		t.Errorf("-timeout=%v and -delay=%v leave requests %v, want %v or more",
			timeout, delay, share, longestRequest)
	}
	if pod.TerminationGracePeriodSeconds == nil {
		t.Fatal("no terminationGracePeriodSeconds")
	}
	if got, want := time.Duration(*pod.TerminationGracePeriodSeconds)*time.Second,
		timeout+afterTimeout; got < want {
		t.Errorf("terminationGracePeriodSeconds: %v, want %v or more", got, want)
	}
	if c.Lifecycle != nil {
		t.Errorf("lifecycle: %+v, want none: the grace period would have to hold that too",
			c.Lifecycle)
	}
}

// TestDeploymentNames checks that every reference by name finds its object.
func TestDeploymentNames(t *testing.T) {
	m := readManifests(t)
	spec, labels := m.deployment.Spec, m.deployment.Spec.Template.Labels
	c := spec.Template.Spec.Containers[0]
	if got := spec.Selector.MatchLabels; !maps.Equal(got, labels) {
		t.Errorf("the Deployment selects %v, want %v", got, labels)
	}
	if got := m.service.Spec.Selector; !maps.Equal(got, labels) {
		t.Errorf("the Service selects %v, want %v", got, labels)
	}
	if got := m.budget.Spec.Selector.MatchLabels; !maps.Equal(got, labels) {
		t.Errorf("the PodDisruptionBudget selects %v, want %v", got, labels)
	}
	ports := make(map[string]int32)
	for _, p := range c.Ports {
		ports[p.Name] = p.ContainerPort
	}
	// As in the args.
	if want := map[string]int32{"http": 8080, "admin": 6060}; !maps.Equal(ports, want) {
		t.Errorf("ports: %v, want %v", ports, want)
	}
	if got := m.service.Spec.Ports; len(got) != 1 || got[0].TargetPort.String() != "http" {
		t.Errorf("the Service has ports %v, want http only", got)
	}
	for name, probe := range map[string]*corev1.Probe{
		"readinessProbe": c.ReadinessProbe,
		"startupProbe":   c.StartupProbe,
	} {
		if probe == nil || probe.HTTPGet == nil {
			t.Errorf("%s: %v, want httpGet", name, probe)
		} else if got := probe.HTTPGet; got.Port.String() != "admin" || got.Path != "/readyz" {
			t.Errorf("%s asks %v, want /readyz of admin", name, got)
		}
	}
	// MaxUnavailable is 25% if it is not set.
	update := spec.Strategy.RollingUpdate
	if update == nil || update.MaxUnavailable == nil || update.MaxUnavailable.IntValue() != 0 ||
		update.MaxSurge == nil || update.MaxSurge.IntValue() < 1 {
		t.Errorf("rollingUpdate: %+v, want none unavailable", update)
	}
}

// TestDeploymentArgs checks that examples/server takes the args as they are.
// Later args override those that do not suit a test.
func TestDeploymentArgs(t *testing.T) {
	tmp := t.TempDir()
	if err := build(t.Context(), tmp); err != nil {
		t.Fatal(err)
	}
	args := readManifests(t).deployment.Spec.Template.Spec.Containers[0].Args
	args = append(args, "-addr=127.0.0.1:0", "-admin=127.0.0.1:0",
		"-journal="+filepath.Join(tmp, "journal"), "-delay=0s")
	p := process.StartCommand(t, process.Other(t, filepath.Join(tmp, "server"), args...))
	p.Line("listening on ")
	p.Signal(syscall.SIGTERM)
	p.WantExit(0)
}
