package jsonb

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

// shapes are the texts of the benchmarks: for each shape a few hundred kB, in texts
// of typical size.
func shapes() []struct {
	name  string
	texts [][]byte
} {
	r := rand.New(rand.NewPCG(1, 2))
	fill := func(text func() []byte) (texts [][]byte) {
		for size := 0; size < 256<<10; size += len(texts[len(texts)-1]) {
			texts = append(texts, text())
		}
		return texts
	}
	return []struct {
		name  string
		texts [][]byte
	}{
		{"Step", fill(func() []byte { return stepOutput(r) })},
		{"StepDumps", fill(func() []byte { return likeDumps(stepOutput(r)) })},
		{"Numbers", fill(func() []byte { return numbers(r, 400) })},
		{"Deep", fill(func() []byte { return deep(500) })},
		{"LongText", fill(func() []byte { return longText(r, 64<<10, "en") })},
		{"LongTextJapanese", fill(func() []byte { return longText(r, 64<<10, "ja") })},
	}
}

var words = map[string][]string{
	"en": strings.Fields(
		"the model answered that every invoice of March was paid, \"with interest\", and the refund\nis due by " +
			"Friday; see the table below for totals and the notes of the reviewer on tax",
	),
	"de": strings.Fields("Die Prüfung ergab, dass alle Gebühren für März überwiesen wurden – " +
		"größere Beträge später"),
	"ja": {
		"請求書は", "すべて支払い済みです。", "返金は", "金曜日までに",
		"行われます。", "詳細は表を参照してください。",
	},
}

func prose(r *rand.Rand, language string, size int) string {
	var b strings.Builder
	for words := words[language]; b.Len() < size; {
		b.WriteString(words[r.IntN(len(words))])
		switch {
		case language == "ja":
		case r.IntN(12) == 0:
			b.WriteString("\n")
		default:
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// stepOutput is the output of a pipeline step as orjson writes it: 1 to 8 kB, compact,
// raw UTF-8.
func stepOutput(r *rand.Rand) []byte {
	type item struct {
		ID       int      `json:"id"`
		Title    string   `json:"title"`
		Score    float64  `json:"score"`
		Accepted bool     `json:"accepted"`
		Parent   *int     `json:"parent_id"`
		Tags     []string `json:"tags"`
	}
	out := struct {
		Success  bool           `json:"success"`
		Step     string         `json:"step_name"`
		Content  string         `json:"content"`
		Summary  string         `json:"summary"`
		Items    []item         `json:"items"`
		Usage    map[string]any `json:"usage"`
		Latency  float64        `json:"latency_s"`
		Error    *string        `json:"error"`
		Metadata map[string]any `json:"metadata_"`
	}{
		Success: true,
		Step:    "extract_invoices",
		Content: prose(r, "en", 200+r.IntN(2500)),
		Summary: prose(r, []string{"en", "en", "de", "ja"}[r.IntN(4)], 100+r.IntN(300)),
		Usage: map[string]any{
			"prompt_tokens":     r.IntN(9000),
			"completion_tokens": r.IntN(2000),
			"cost_usd":          r.Float64(),
		},
		Latency: r.Float64() * 10,
		Metadata: map[string]any{
			"model": "provider/model-large", "attempts": 1 + r.IntN(3), "path": `C:\data\run`,
			"run_id": fmt.Sprintf("%032x", r.Uint64()), "created_at": "2026-01-05T09:00:01.669094+00:00",
		},
	}
	for range r.IntN(28) {
		out.Items = append(out.Items, item{
			ID: r.IntN(1e6), Title: prose(r, "en", 10+r.IntN(40)), Score: r.Float64(),
			Accepted: r.IntN(2) == 0, Tags: []string{"invoice", "paid", prose(r, "de", 5)},
		})
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(out); err != nil {
		panic(err)
	}
	return []byte(strings.TrimSuffix(b.String(), "\n"))
}

// likeDumps converts a compact text to the form of Python's json.dumps: a space after
// each colon and comma, and ASCII only.
func likeDumps(compact []byte) []byte {
	var b []byte
	inString, escaped := false, false
	for _, r := range string(compact) {
		switch {
		case r >= 0x80:
			b = fmt.Appendf(b, `\u%04x`, r)
		case !inString && (r == ':' || r == ','):
			b = append(b, byte(r), ' ')
		default:
			b = append(b, byte(r))
		}
		if r == '"' && !escaped {
			inString = !inString
		}
		escaped = r == '\\' && !escaped
	}
	return b
}

// numbers is an array of floats, such as an embedding.
func numbers(r *rand.Rand, n int) []byte {
	b := []byte("[")
	for range n {
		b = strconv.AppendFloat(b, r.NormFloat64()/10, 'g', -1, 64)
		b = append(b, ',')
	}
	b[len(b)-1] = ']'
	return b
}

func deep(levels int) []byte {
	return []byte(strings.Repeat(`{"children":[`, levels/2) + `1` + strings.Repeat(`]}`, levels/2))
}

func longText(r *rand.Rand, size int, language string) []byte {
	b, err := json.Marshal(map[string]string{"content": prose(r, language, size)})
	if err != nil {
		panic(err)
	}
	return b
}

func BenchmarkScan(b *testing.B) {
	benchmark(b, func(text []byte) Flaws {
		z := scanner{s: text, max: DefaultDepth}
		return z.verdict()
	})
}

func BenchmarkAppendRepaired(b *testing.B) {
	buffer := make([]byte, 0, 1<<20)
	benchmark(b, func(text []byte) Flaws {
		_, flaws := AppendRepaired(buffer, text, DefaultDepth)
		return flaws
	})
}

// benchmark measures check on all texts of each shape.
func benchmark(b *testing.B, check func(text []byte) Flaws) {
	for _, shape := range shapes() {
		b.Run(shape.name, func(b *testing.B) {
			size := 0
			for _, text := range shape.texts {
				size += len(text)
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				for _, text := range shape.texts {
					if flaws := check(text); flaws != 0 {
						b.Fatalf("flaws %b in %.100s", flaws, text)
					}
				}
			}
		})
	}
}
