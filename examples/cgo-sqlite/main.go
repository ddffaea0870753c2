// Notes writes a note to a SQLite database, opens it again and reads all notes: a
// program with a megabyte of C.
package main

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/mattn/go-sqlite3"
)

func main() {
	file := "/tmp/notes.db"
	if len(os.Args) > 1 {
		file = os.Args[1]
	}
	notes, err := keep(file, "written on "+runtime.GOOS+"/"+runtime.GOARCH)
	if err != nil {
		fmt.Fprintln(os.Stderr, "notes:", err)
		os.Exit(1)
	}
	version, _, _ := sqlite3.Version()
	for _, note := range notes {
		fmt.Printf("SQLite %s: %s\n", version, note)
	}
}

// keep adds a note to the database in file, opens it again, and returns all notes in
// it.
func keep(file, note string) ([]string, error) {
	err := with(file, func(db *sql.DB) error {
		if _, err := db.Exec("CREATE TABLE IF NOT EXISTS notes (text TEXT NOT NULL)"); err != nil {
			return err
		}
		_, err := db.Exec("INSERT INTO notes VALUES (?)", note)
		return err
	})
	if err != nil {
		return nil, err
	}
	var notes []string
	err = with(file, func(db *sql.DB) error {
		rows, err := db.Query("SELECT text FROM notes ORDER BY rowid")
		if err != nil {
			return err
		}
		for rows.Next() {
			var text string
			if err := rows.Scan(&text); err != nil {
				return errors.Join(err, rows.Close())
			}
			notes = append(notes, text)
		}
		return rows.Err()
	})
	return notes, err
}

// with opens the database, calls do, and closes it.
func with(file string, do func(*sql.DB) error) error {
	db, err := sql.Open("sqlite3", file)
	if err != nil {
		return err
	}
	return errors.Join(do(db), db.Close())
}
