//! Standard output of a command: data only, and no panic where nobody reads it.

use std::fmt;
use std::io::{self, BufWriter, Write};

use serde::Serialize;

use super::failure::{Code, Failure, words};

/// Why a command stops before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The reader has gone, as `head` does: there is nothing left to do and nothing wrong.
    NobodyReads,
    /// It failed.
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Standard output, buffered; [`flush`](Self::flush) it before the command ends.
pub(crate) struct Output(BufWriter<io::StdoutLock<'static>>);

impl Output {
    /// Takes standard output for the rest of the command.
    pub(crate) fn new() -> Self {
        Self(BufWriter::with_capacity(64 << 10, io::stdout().lock()))
    }

    /// Writes bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.0.write_all(bytes).map_err(|error| stop(&error))
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, line: &str) -> Result<(), Stop> {
        self.write(line.as_bytes())?;
        self.write(b"\n")
    }

    /// Writes a value as one line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Stop> {
        match serde_json::to_vec(value) {
            Ok(mut line) => {
                line.push(b'\n');
                self.write(&line)
            }
            Err(error) => unreachable!("plain values are JSON: {error}"),
        }
    }

    /// Hands everything to the reader.
    pub(crate) fn flush(&mut self) -> Result<(), Stop> {
        self.0.flush().map_err(|error| stop(&error))
    }
}

fn stop(error: &io::Error) -> Stop {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Stop::NobodyReads;
    }
    Stop::Failed(Failure::new(
        Code::Failed,
        "cannot write to standard output",
        words(error),
        "what was printed so far may be incomplete",
    ))
}

/// How lists are printed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// One JSON array
    Json,
    /// One JSON object on each line
    Jsonl,
}

/// A table without lines, whose columns line up.
pub(crate) struct Table(comfy_table::Table);

impl Table {
    /// Begins a table with the names of its columns.
    pub(crate) fn new(columns: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::NOTHING);
        table.set_header(columns.iter().map(|name| name.to_uppercase()));
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        Self(table)
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.0.add_row(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.0.lines().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            // The padding of the last column is nothing to copy or compare.
            f.write_str(line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_at_the_margin_with_rows_and_without() {
        let mut table = Table::new(&["topic", "state"]);
        assert_eq!(table.to_string(), "TOPIC  STATE");
        table.row(["reminders".to_owned(), "due".to_owned()]);
        assert_eq!(table.to_string(), "TOPIC      STATE\nreminders  due");
    }
}
