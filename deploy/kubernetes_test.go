//go:build linux

package deploy_test

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/clierr"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// manifests are the objects in kubernetes/*.yaml, one in each file.
type manifests struct {
	jobs   map[string]*batchv1.Job // by the name of the file
	secret corev1.Secret
}

// decode reads the manifests. Unknown fields and fields that occur twice are errors, as they are for the API server.
func decode(t *testing.T) *manifests {
	t.Helper()
	m := &manifests{jobs: map[string]*batchv1.Job{}}
	paths, err := filepath.Glob("kubernetes/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		text := []byte(read(t, path))
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal(text, &kind); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		var object any
		switch kind {
		case metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"}:
			job := &batchv1.Job{}
			m.jobs[filepath.Base(path)] = job
			object = job
		case metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}:
			object = &m.secret
		default:
			t.Fatalf("%s holds a %s of %s", path, kind.Kind, kind.APIVersion)
		}
		if err := yaml.UnmarshalStrict(text, object); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	if files := slices.Sorted(maps.Keys(m.jobs)); !slices.Equal(files, []string{"cutover.yaml", "dry-run.yaml"}) {
		t.Fatalf("there are Jobs in %q", files)
	}
	return m
}

// only returns the only member of a list.
func only[T any](t *testing.T, what string, list []T) (one T) {
	t.Helper()
	if len(list) != 1 {
		t.Fatalf("got %d %s, want 1", len(list), what)
	}
	return list[0]
}

func TestJobs(t *testing.T) {
	t.Parallel()
	m := decode(t)
	names := map[string]bool{}
	for file, job := range m.jobs {
		t.Run(file, func(t *testing.T) {
			pod := &job.Spec.Template.Spec
			c := only(t, "containers", pod.Containers)
			names[job.Name] = true

			// Only what finds out that it has run runs again by itself, and the reason of a failure tells whether a
			// repetition can help.
			rule := only(t, "rules", job.Spec.PodFailurePolicy.Rules)
			codes := rule.OnExitCodes
			if (*job.Spec.BackoffLimit > 0) != slices.Contains(c.Args, "--if-needed") ||
				pod.RestartPolicy != corev1.RestartPolicyNever ||
				rule.Action != batchv1.PodFailurePolicyActionFailJob || *codes.ContainerName != c.Name ||
				codes.Operator != batchv1.PodFailurePolicyOnExitCodesOpIn {
				t.Errorf(
					"got backoffLimit %d, restartPolicy %s, rule %+v",
					*job.Spec.BackoffLimit,
					pod.RestartPolicy,
					rule,
				)
			}
			permanent := []int32{int32(clierr.Usage), int32(clierr.Refused), int32(clierr.Mismatch)}
			if !slices.Equal(codes.Values, permanent) {
				t.Errorf("the Job fails at exit codes %d, want %d", codes.Values, permanent)
			}

			// The container has no privileges and no writable root.
			s, p := c.SecurityContext, pod.SecurityContext
			if !*p.RunAsNonRoot || *p.RunAsUser == 0 || p.FSGroup != nil ||
				p.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault || *s.AllowPrivilegeEscalation ||
				!*s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) ||
				*pod.AutomountServiceAccountToken || *pod.EnableServiceLinks {
				t.Errorf("got security contexts %+v and %+v", p, s)
			}
			if c.Image != image(t) || len(c.Command) > 0 {
				t.Errorf("got image %s, command %q", c.Image, c.Command)
			}

			// Every volume is mounted: the state read-only, and an emptyDir at TMPDIR.
			if len(pod.Volumes) != 2 || len(c.VolumeMounts) != 2 {
				t.Fatalf("got %d volumes and %d mounts", len(pod.Volumes), len(c.VolumeMounts))
			}
			state, temporary := pod.Volumes[0], pod.Volumes[1]
			if state.PersistentVolumeClaim == nil || !state.PersistentVolumeClaim.ReadOnly ||
				temporary.EmptyDir == nil {
				t.Errorf("got volumes %+v", pod.Volumes)
			}
			if mount := c.VolumeMounts[0]; mount.Name != state.Name || mount.MountPath != "/data" || !mount.ReadOnly {
				t.Errorf("the state is mounted as %+v", mount)
			}
			variable := only(t, "variables", c.Env)
			if mount := c.VolumeMounts[1]; mount.Name != temporary.Name || mount.ReadOnly ||
				variable.Name != "TMPDIR" ||
				variable.Value != mount.MountPath {
				t.Errorf("%s is %s; %+v", variable.Name, variable.Value, mount)
			}

			// The database is in the Secret, and in no argument.
			if from := only(t, "envFrom", c.EnvFrom); from.SecretRef == nil || from.SecretRef.Name != m.secret.Name {
				t.Errorf("got envFrom %+v", from)
			}
			if i := slices.IndexFunc(c.Args, mayContainPassword); i >= 0 {
				t.Errorf("the argument %q may contain a password", c.Args[i])
			}
		})
	}
	if len(names) != len(m.jobs) {
		t.Errorf("two Jobs have one name: %v", names)
	}
}

// TestReportOfJob decodes what docs/install.md adds to the Job of the cutover, as the API server does.
func TestReportOfJob(t *testing.T) {
	t.Parallel()
	_, text, found := strings.Cut(read(t, "../docs/install.md"), "```yaml kubernetes-report\n")
	text, _, ended := strings.Cut(text, "```")
	var added corev1.PodSpec
	if err := yaml.UnmarshalStrict([]byte(text), &added); err != nil || !found || !ended {
		t.Fatalf("%v in %q", err, text)
	}
	c, job := only(t, "containers", added.Containers), decode(t).jobs["cutover.yaml"]
	of := only(t, "containers", job.Spec.Template.Spec.Containers)
	variable := only(t, "variables", c.Env)
	report := slices.Concat(of.Args, []string{"--report", "/reports/$(" + variable.Name + ").html"})
	if c.Name != of.Name || !slices.Equal(c.Args, report) || variable.ValueFrom.FieldRef.FieldPath != "metadata.name" {
		t.Errorf("got %+v", c)
	}
	volume, mount := only(t, "volumes", added.Volumes), only(t, "mounts", c.VolumeMounts)
	if volume.Name != mount.Name || mount.MountPath != "/reports" || mount.ReadOnly ||
		volume.PersistentVolumeClaim == nil || volume.PersistentVolumeClaim.ReadOnly {
		t.Errorf("got %+v, mounted as %+v", volume, mount)
	}
}

// TestJobsOnServer runs what the Jobs run, with the variables of the Secret: as it is, and with a password.
func TestJobsOnServer(t *testing.T) {
	t.Parallel()
	m := decode(t)
	server := newServer(t)
	for _, file := range []string{"dry-run.yaml", "cutover.yaml"} {
		c := only(t, "containers", m.jobs[file].Spec.Template.Spec.Containers)
		run := &container{args: server.withoutPGVector(c.Args), env: maps.Clone(m.secret.StringData)}
		for _, variable := range c.Env {
			run.env[variable.Name] = variable.Value
		}
		if out, code := run.run(t); code != int(clierr.Usage) || !strings.Contains(out, "not expanded") {
			t.Errorf("%s without a password: exit %d\n%s", file, code, out)
		}
		run.env["PGPASSWORD"] = server.Password()
		run.env["DATABASE_URL"] = server.at(t, run.env["DATABASE_URL"], server.User())
		if out, code := run.run(t); code != 0 || strings.Contains(out, server.Password()) {
			t.Errorf("%s: exit %d\n%s", file, code, out)
		}
		want := "0"
		if file == "cutover.yaml" {
			want = "60"
			if out, code := run.run(t); code != 0 || !strings.Contains(out, "Already migrated: ") {
				t.Errorf("%s again: exit %d\n%s", file, code, out)
			}
		}
		if got := server.count(t, "med13_dev"); got != want {
			t.Errorf("%s: %s runs were migrated, want %s", file, got, want)
		}
	}
}
