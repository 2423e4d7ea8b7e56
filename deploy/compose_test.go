//go:build linux

package deploy_test

import (
	"context"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/pgtest"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

const composeFile = "docker-compose.postgres.yml"

// loadCompose returns the compose file as docker compose reads it: it checks the schema, and replaces variables.
func loadCompose(environment types.Mapping) (*types.Project, error) {
	return loader.LoadWithContext(
		context.Background(),
		types.ConfigDetails{
			WorkingDir:  ".",
			ConfigFiles: []types.ConfigFile{{Filename: composeFile}},
			Environment: environment,
		},
		func(o *loader.Options) { o.Profiles = []string{"*"} },
	)
}

func mustLoadCompose(t *testing.T, environment types.Mapping) (postgres, port types.ServiceConfig) {
	t.Helper()
	project, err := loadCompose(environment)
	if err != nil {
		t.Fatal(err)
	}
	if len(project.Services) != 2 {
		t.Fatalf("got services %q", project.ServiceNames())
	}
	return project.Services["postgres"], project.Services["flujo-port"]
}

func TestComposeNeedsPassword(t *testing.T) {
	t.Parallel()
	if _, err := loadCompose(nil); err == nil || !strings.Contains(err.Error(), "set POSTGRES_PASSWORD") {
		t.Errorf("got error %v", err)
	}
}

func TestCompose(t *testing.T) {
	t.Parallel()
	const secret = "hunter2secret"
	postgres, port := mustLoadCompose(t, types.Mapping{"POSTGRES_PASSWORD": secret})
	for _, service := range []types.ServiceConfig{postgres, port} {
		arguments := slices.Concat(service.Command, service.Entrypoint)
		if service.HealthCheck != nil {
			arguments = append(arguments, service.HealthCheck.Test...)
		}
		for _, arg := range arguments {
			if strings.Contains(arg, secret) || mayContainPassword(arg) {
				t.Errorf("%s: the argument %q may contain a password", service.Name, arg)
			}
		}
	}
	if !strings.Contains(postgres.Image, "pgvector") || only(t, "ports", postgres.Ports).HostIP != "127.0.0.1" {
		t.Errorf("got image %s, ports %+v", postgres.Image, postgres.Ports)
	}
	if port.Image != image(t) || port.Build.Context == "" || port.Restart != "no" ||
		port.DependsOn["postgres"].Condition != types.ServiceConditionHealthy ||
		!slices.Equal(port.Profiles, []string{"migration"}) {
		t.Errorf("got %+v", port)
	}
	if !port.ReadOnly || port.User != "65532:65532" || port.Privileged ||
		!slices.Equal(port.CapDrop, []string{"ALL"}) ||
		!slices.Equal(port.SecurityOpt, []string{"no-new-privileges:true"}) ||
		len(port.Tmpfs) != 1 {
		t.Errorf("got %+v", port)
	}
	if mount := only(t, "mounts", port.Volumes); !mount.ReadOnly || mount.Target != "/data" {
		t.Errorf("the state is mounted as %+v", mount)
	}
	// Both services mean one database, also another than the default.
	for _, database := range []string{"med13_dev", "med13"} {
		environment := types.Mapping{"POSTGRES_PASSWORD": secret}
		if database != "med13_dev" {
			environment["POSTGRES_DB"] = database
		}
		postgres, port := mustLoadCompose(t, environment)
		if *postgres.Environment["POSTGRES_DB"] != database ||
			!slices.Contains(postgres.HealthCheck.Test, "--dbname="+database) ||
			!strings.Contains(*port.Environment["DATABASE_URL"], "/"+database+"?") {
			t.Errorf("database %s: got %v and %v", database, postgres.Environment, port.Environment)
		}
	}
}

// TestComposeOnServer does what the services do: the image creates the role and the database and runs the init SQL,
// and then flujo-port runs its command, check and migrate.
func TestComposeOnServer(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	postgres, port := mustLoadCompose(t, types.Mapping{"POSTGRES_PASSWORD": "hunter2secret"})
	role, database := *postgres.Environment["POSTGRES_USER"], *postgres.Environment["POSTGRES_DB"]
	asRole := pgtest.WithUser(t, server.URL(database), role, *postgres.Environment["POSTGRES_PASSWORD"])
	sql := "CREATE ROLE " + role + " SUPERUSER LOGIN PASSWORD 'hunter2secret'"
	psql(t, server, "--dbname", server.URL(database), "--command", sql)
	psql(t, server, "--dbname", server.URL(database), "--command", "ALTER DATABASE "+database+" OWNER TO "+role)

	i := slices.IndexFunc(postgres.Volumes, func(v types.ServiceVolumeConfig) bool {
		return v.Target == "/docker-entrypoint-initdb.d"
	})
	scripts, err := filepath.Glob(filepath.Join(postgres.Volumes[i].Source, "*.sql"))
	if err != nil || len(scripts) == 0 {
		t.Fatalf("got scripts %q (%v)", scripts, err)
	}
	for _, script := range scripts {
		psql(t, server, "--dbname", asRole, "--file", script)
	}
	if got := server.ask(t, database, "SELECT nspname FROM pg_namespace WHERE nspname = 'flujo'"); got != "flujo" {
		t.Errorf("the init SQL created %q", got)
	}

	c := &container{env: map[string]string{}}
	run := func(args ...string) (string, int) {
		c.args = args
		for name, value := range port.Environment {
			c.env[name] = *value
		}
		c.env["DATABASE_URL"] = server.at(t, c.env["DATABASE_URL"], role)
		return c.run(t)
	}
	for _, step := range []struct {
		args []string
		runs string
	}{
		{port.Command, "0"},
		{[]string{"check"}, "0"},
		{[]string{"migrate", "--report", "/reports/migrated.html", "--env-file", "/reports/cutover.env"}, "60"},
		{[]string{"verify"}, "60"},
	} {
		args := step.args
		if args[0] != "verify" {
			args = server.withoutPGVector(args)
		}
		if out, code := run(args...); code != 0 || strings.Contains(out, "hunter2secret") {
			t.Errorf("%q: exit %d\n%s", args, code, out)
		}
		if got := server.count(t, database); got != step.runs {
			t.Errorf("%q: %s runs were migrated, want %s", args, got, step.runs)
		}
		if args[0] == "migrate" && step.runs != "0" {
			page, file := c.reports["migrated.html"], c.reports["cutover.env"]
			if len(c.reports) != 2 || !strings.HasPrefix(file, "-rw-------\nFLUJO_STATE_URI=postgresql://") ||
				!strings.Contains(page, "Migrated and verified: 674 rows") || strings.Contains(page, "hunter2secret") {
				t.Errorf("got the env file %q and the page %.500q", file, page)
			}
		}
	}
}

// psql runs psql as the image does.
func psql(t *testing.T, server *server, args ...string) {
	t.Helper()
	args = append([]string{"-v", "ON_ERROR_STOP=1", "--no-password", "--no-psqlrc"}, args...)
	out, err := exec.Command(pgtest.Client(t, server.URL("postgres"), "psql"), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("psql: %v\n%s", err, out)
	}
}
