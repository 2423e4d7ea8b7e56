package stateuri

import "testing"

func TestMask(t *testing.T) {
	tests := []struct{ name, s, want string }{
		{"empty", "", ""},
		{"no password", "postgresql://u@h/db?sslmode=require", "postgresql://u@h/db?sslmode=require"},
		{"password", "postgresql+psycopg2://u:hunter2@h:1/db?a=b", "postgresql+psycopg2://u:***@h:1/db?a=b"},
		{"empty password", "postgresql://u:@h/db", "postgresql://u:***@h/db"},
		{"odd password", "postgresql://u:a?b#c:d@h/db", "postgresql://u:***@h/db"},
		{"parameter", "postgresql://h/db?a=b&password=hunter2", "postgresql://h/db?a=b&password=***"},
		{"encoded parameter", "postgresql://h/db?pass%77ord=hunter2", "postgresql://h/db?pass%77ord=***"},
		{"unencoded parameter goes on", "postgresql://h/db?password=a&hunter2=b", "postgresql://h/db?password=***"},
		{"sslpassword", "postgresql://h/db?sslpassword=hunter2", "postgresql://h/db?sslpassword=***"},
		{
			"password in options",
			"postgresql://h/db?options=-c%20app.password%3Dhunter2",
			"postgresql://h/db?options=***",
		},
		{"files are shown", "postgresql://h/db?sslkey=/k&passfile=/p", "postgresql://h/db?sslkey=/k&passfile=/p"},
		{"raw @", "postgresql://u:p@hunter2@h/db", "postgresql://***"},
		{"raw /", "postgresql://u:1/hunter2@h/db", "postgresql://***"},
		{"raw / and no @", "postgresql://u:hunter2/x", "postgresql://***"},
		{"raw / and @ in the query", "postgresql://u:1/p?hunter2=@h/db", "postgresql://***"},
		{"whole userinfo encoded", "postgresql://u%3Ahunter2@h/db", "postgresql://***@h/db"},
		{"bad escape", "postgresql://u:hunter2%zz@h/db", "postgresql://***"},
		{"NUL", "postgresql://u:hunter2\x00@h/db", "postgresql://***"},
		{"other scheme", "mysql://u:hunter2@h/db", "mysql://u:***@h/db"},
		{"keyword/value", "host=h user=u", "host=h user=u"},
		{"keyword/value with password", "host=h password = 'hunter2' user=u", "host=h password = ***"},
		{"keyword/value with capitals", "host=h PASSWORD=hunter2", "host=h PASSWORD=***"},
		{"unquoted space", "password=a hunter2", "***"},
		{"open quote", "host=h password='hunter2", "***"},
		{"no scheme", "u:hunter2@h/db", "***"},
		{"no scheme but parameters", "u:hunter2@h/db?sslmode=require", "***"},
		{"prose", "cannot reach postgresql://u:hunter2@h/db", "***"},
		{"path", "/srv/my state.db", "/srv/my state.db"},
		{"SQLite", "sqlite:////srv/x@y.db?mode=ro", "sqlite:////srv/x@y.db?mode=ro"},
		{"SQLCipher", "sqlite+pysqlcipher://:hunter2@/x.db", "sqlite+pysqlcipher://:***@/x.db"},
		{"SQLCipher parameter", "sqlite:////x.db?key=hunter2", "sqlite:////x.db?key=***"},
		{"memory", "memory://", "memory://"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := Mask(test.s); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			if again := Mask(test.want); again != test.want {
				t.Errorf("masked twice: %s", again)
			}
		})
	}
}
