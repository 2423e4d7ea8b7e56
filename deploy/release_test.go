//go:build linux

package deploy_test

import (
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestReleaseHasWhatPagesName tests that the archives and packages of a release contain every file of the repository to
// which one of their pages links, and every file of deploy that a page names.
func TestReleaseHasWhatPagesName(t *testing.T) {
	t.Parallel()
	var release struct {
		Archives []struct {
			Files []struct{ Src string }
		}
		NFPMs []struct {
			Contents []struct{ Src, Dst string }
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, "../.goreleaser.yaml")), &release); err != nil {
		t.Fatal(err)
	}
	// By the path in the repository: whether it is in the archives, and in the packages under the same path.
	archived, packaged := map[string]bool{}, map[string]bool{}
	for _, file := range only(t, "archives", release.Archives).Files {
		for pattern := range strings.SplitSeq(strings.Trim(file.Src, "{}"), ",") {
			for _, found := range glob(t, pattern) {
				archived[found] = true
			}
		}
	}
	const docs = "/usr/share/doc/flujo-port/"
	for _, file := range only(t, "packages", release.NFPMs).Contents {
		for _, found := range glob(t, file.Src) {
			to := strings.TrimPrefix(file.Dst, docs)
			switch {
			case to == found, to+path.Base(found) == found:
				packaged[found] = true
			case to != file.Dst && found != "LICENSE":
				t.Errorf("%s becomes %s in the packages, so links to it lead nowhere", found, file.Dst)
			}
		}
	}
	link, deployed := regexp.MustCompile(`\]\(([^)\s#]+)`), regexp.MustCompile(`deploy/[\w./-]*\w`)
	links := 0
	for page := range archived {
		if !strings.HasSuffix(page, ".md") {
			continue
		}
		var named []string
		text := read(t, "../"+page)
		for _, match := range link.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(match[1], "://") {
				named = append(named, path.Join(path.Dir(page), match[1]))
			}
		}
		if page == "README.md" || strings.HasPrefix(page, "docs/") { // the others are for who changes the program
			named = append(named, deployed.FindAllString(text, -1)...)
		}
		for _, name := range named {
			links++
			files := glob(t, name)
			if len(files) == 1 && path.Ext(name) == "" {
				files = glob(t, name+"/*") // a folder
			}
			if len(files) == 0 {
				t.Errorf("%s names %s, which does not exist", page, name)
			}
			for _, file := range files {
				if file != "LICENSE" && (!archived[file] || !packaged[file]) {
					t.Errorf(
						"%s names %s: in the archives %v, in the packages %v",
						page,
						name,
						archived[file],
						packaged[file],
					)
				}
			}
		}
	}
	if links < 80 {
		t.Errorf("found only %d links", links)
	}
}

// glob returns the files of the repository that match, by their paths in it.
func glob(t *testing.T, pattern string) (files []string) {
	t.Helper()
	found, err := filepath.Glob("../" + pattern)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range found {
		files = append(files, strings.TrimPrefix(file, "../"))
	}
	return files
}
