//go:build linux

package deploy_test

import (
	"context"
	"net/url"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"
)

// wiring returns a block of docs/wiring.md.
func wiring(t *testing.T, name string) string {
	t.Helper()
	found := regexp.MustCompile("(?ms)^```yaml " + name + "\n(.*?)^```$").
		FindStringSubmatch(read(t, "../docs/wiring.md"))
	if found == nil {
		t.Fatalf("docs/wiring.md has no block %s", name)
	}
	return found[1]
}

// TestWiringCompose reads the service of docs/wiring.md together with the compose file, and migrates by its address.
func TestWiringCompose(t *testing.T) {
	t.Parallel()
	load := func(environment types.Mapping) (*types.Project, error) {
		return loader.LoadWithContext(context.Background(), types.ConfigDetails{
			WorkingDir: ".",
			ConfigFiles: []types.ConfigFile{
				{Filename: composeFile}, {Filename: "compose.yaml", Content: []byte(wiring(t, "compose"))},
			},
			Environment: environment,
		}, func(o *loader.Options) { o.Profiles = []string{"*"} })
	}
	if _, err := load(nil); err == nil || !strings.Contains(err.Error(), "set POSTGRES_PASSWORD") {
		t.Errorf("without a password: got error %v", err)
	}
	project, err := load(types.Mapping{"POSTGRES_PASSWORD": "hunter2secret"})
	if err != nil {
		t.Fatal(err)
	}
	app, postgres, port := project.Services["app"], project.Services["postgres"], project.Services["flujo-port"]
	address, err := url.Parse(*app.Environment["FLUJO_STATE_URI"])
	if err != nil {
		t.Fatal(err)
	}
	// It is the database that flujo-port migrates to, as the same role with the same password, and nothing is added.
	want, got := cutover(t, "DATABASE_URL", *port.Environment["DATABASE_URL"]), cutover(t, "FLUJO_STATE_URI",
		address.String())
	if got != want || got != address.String()+"\n" ||
		address.User.Username() != *postgres.Environment["POSTGRES_USER"] ||
		*app.Environment["PGPASSWORD"] != *port.Environment["PGPASSWORD"] ||
		app.DependsOn["postgres"].Condition != types.ServiceConditionHealthy {
		t.Errorf("got %s, want %s; %+v", got, want, app)
	}

	server := newServer(t)
	query := address.RawQuery
	address.Host, address.User = server.Addr(), url.User(server.User())
	environment := map[string]string{"FLUJO_STATE_URI": address.String(), "PGPASSWORD": server.Password()}
	migrate := &container{args: server.withoutPGVector([]string{"migrate"}), env: environment}
	if out, code := migrate.run(t); code != 0 || server.count(t, "med13_dev") != "60" {
		t.Errorf("migrate: exit %d\n%s", code, out)
	}
	connect := &container{args: server.withoutPGVector([]string{"uri", "cutover", "--connect"}), env: environment}
	if out, code := connect.run(t); code != 0 || !strings.Contains(out, query) {
		t.Errorf("uri cutover: exit %d\n%s", code, out)
	}
}

// cutover returns what `uri cutover` prints by the address in a variable.
func cutover(t *testing.T, variable, address string) string {
	t.Helper()
	c := exec.Command(program, "uri", "cutover", "--reveal")
	c.Env = []string{variable + "=" + address, "HOME=" + t.TempDir()}
	out, err := c.Output()
	if err != nil {
		t.Fatalf("uri cutover: %v", err)
	}
	return string(out)
}

// TestWiringDeployment decodes the Deployment of docs/wiring.md as the API server does.
func TestWiringDeployment(t *testing.T) {
	t.Parallel()
	var d appsv1.Deployment
	if err := yaml.UnmarshalStrict([]byte(wiring(t, "deployment")), &d); err != nil {
		t.Fatal(err)
	}
	pod := d.Spec.Template
	c := only(t, "containers", pod.Spec.Containers)
	secret := only(t, "envFrom", c.EnvFrom).SecretRef.Name
	if d.APIVersion != "apps/v1" || d.Kind != "Deployment" || secret != "flujo-state-uri" ||
		!strings.Contains(read(t, "../docs/wiring.md"), "\nkubectl create secret generic "+secret+" --from-env-file=") {
		t.Errorf("got %+v", d)
	}
	for name, value := range d.Spec.Selector.MatchLabels {
		if pod.Labels[name] != value {
			t.Errorf("the selector %s=%s does not match %v", name, value, pod.Labels)
		}
		// The Job of the dry run prefers the node of this pod.
		term := only(t, "terms", decode(t).jobs["dry-run.yaml"].Spec.Template.Spec.Affinity.PodAffinity.
			PreferredDuringSchedulingIgnoredDuringExecution)
		if term.PodAffinityTerm.LabelSelector.MatchLabels[name] != value {
			t.Errorf("the Job prefers the node of %v", term.PodAffinityTerm.LabelSelector)
		}
	}
	// The second example of the formula is this Deployment during an update.
	pods := int(*d.Spec.Replicas) + d.Spec.Strategy.RollingUpdate.MaxSurge.IntValue()
	if len(c.Env) != 2 {
		t.Fatalf("got variables %+v", c.Env)
	}
	pool, password := c.Env[0], c.Env[1]
	if key := password.ValueFrom.SecretKeyRef; key.Name != decode(t).secret.Name ||
		decode(t).secret.StringData[key.Key] == "" || key.Key != password.Name {
		t.Errorf("got the password from %+v", key)
	}
	if pods != 5 || pool.Name != "POSTGRES_POOL_MAX" ||
		!strings.Contains(read(t, "../docs/wiring.md"), "5 × 2 × ("+pool.Value+" + 0 + 3) = 70") {
		t.Errorf("got %d pods, %+v", pods, pool)
	}
}
