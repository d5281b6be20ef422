//! Formats of records on the command line, with kcat's escapes.
//!
//! `%t` topic, `%p` partition, `%o` offset, `%T` timestamp in milliseconds, `%k` key, `%s` value,
//! `%h` headers, `%K` and `%S` lengths of key and value (-1 for null), `%%` a percent sign; and
//! `\n`, `\r`, `\t`, `\\`, `\xNN`.

use std::fmt::Write;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::failure::Failure;

/// A record as commands print it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// Unix milliseconds, -1 for none.
    pub(crate) timestamp: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a [(&'a [u8], Option<&'a [u8]>)],
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Literal(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    Value,
    Headers,
    KeyLength,
    ValueLength,
}

/// A format for printing records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OutputFormat(Vec<Piece>);

impl OutputFormat {
    /// Reads a format.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        Ok(Self(pieces(text)?))
    }

    /// Appends a record to `out`.
    pub(crate) fn render(&self, record: &Shown<'_>, out: &mut Vec<u8>) {
        let mut number = String::new();
        for piece in &self.0 {
            let value = match piece {
                Piece::Literal(bytes) => {
                    out.extend_from_slice(bytes);
                    continue;
                }
                Piece::Key => {
                    out.extend_from_slice(record.key.unwrap_or_default());
                    continue;
                }
                Piece::Value => {
                    out.extend_from_slice(record.value.unwrap_or_default());
                    continue;
                }
                Piece::Topic => {
                    out.extend_from_slice(record.topic.as_bytes());
                    continue;
                }
                Piece::Headers => {
                    render_headers(record.headers, out);
                    continue;
                }
                Piece::Partition => i64::from(record.partition),
                Piece::Offset => record.offset,
                Piece::Timestamp => record.timestamp,
                Piece::KeyLength => length(record.key),
                Piece::ValueLength => length(record.value),
            };
            number.clear();
            write!(number, "{value}").expect("a string grows");
            out.extend_from_slice(number.as_bytes());
        }
    }
}

fn length(field: Option<&[u8]>) -> i64 {
    field.map_or(-1, |field| field.len() as i64)
}

fn render_headers(headers: &[(&[u8], Option<&[u8]>)], out: &mut Vec<u8>) {
    for (index, (name, value)) in headers.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(name);
        out.push(b'=');
        out.extend_from_slice(value.unwrap_or(b"NULL"));
    }
}

/// A format for reading records, one on each line: `%k` and `%s` with texts between them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct InputFormat(Vec<Piece>);

/// Key and value of a line; each is missing where the format does not name it.
pub(crate) type KeyAndValue<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

impl InputFormat {
    /// Reads a format.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let pieces = pieces(text.strip_suffix("\\n").unwrap_or(text))?;
        let wrong = |why: &str| {
            Err(Failure::usage(
                format!("cannot use the format {text}"),
                why,
                r"use one such as %s or %k\t%s",
            ))
        };
        for (index, piece) in pieces.iter().enumerate() {
            match piece {
                Piece::Literal(_) => {}
                Piece::Key | Piece::Value => {
                    if pieces[..index].contains(piece) {
                        return wrong("it names a field twice");
                    }
                    if index > 0 && !matches!(pieces[index - 1], Piece::Literal(_)) {
                        return wrong("nothing stands between %k and %s to tell them apart");
                    }
                }
                Piece::Topic
                | Piece::Partition
                | Piece::Offset
                | Piece::Timestamp
                | Piece::Headers
                | Piece::KeyLength
                | Piece::ValueLength => {
                    return wrong("records are read with %k for the key and %s for the value only");
                }
            }
        }
        if !pieces.contains(&Piece::Value) {
            return wrong("it has no %s for the value");
        }
        Ok(Self(pieces))
    }

    /// Takes a line (without its end) apart; `None` where it does not have the format.
    pub(crate) fn split<'l>(&self, line: &'l [u8]) -> Option<KeyAndValue<'l>> {
        let (mut key, mut value) = (None, None);
        let mut rest = line;
        let mut pieces = self.0.iter().peekable();
        while let Some(piece) = pieces.next() {
            if let Piece::Literal(expected) = piece {
                rest = rest.strip_prefix(expected.as_slice())?;
                continue;
            }
            let field = match pieces.peek() {
                Some(Piece::Literal(end)) => {
                    let at = rest.windows(end.len()).position(|window| window == end.as_slice())?;
                    let (field, behind) = rest.split_at(at);
                    rest = behind;
                    field
                }
                Some(_) | None => std::mem::take(&mut rest),
            };
            if *piece == Piece::Key {
                key = Some(field);
            } else {
                value = Some(field);
            }
        }
        rest.is_empty().then_some((key, value))
    }
}

fn pieces(text: &str) -> Result<Vec<Piece>, Failure> {
    let mut pieces = Vec::new();
    let mut literal = Vec::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char != '%' && char != '\\' {
            literal.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = chars.next();
        if char == '\\' {
            literal.push(match escape {
                Some('n') => b'\n',
                Some('r') => b'\r',
                Some('t') => b'\t',
                Some('\\') => b'\\',
                Some('x') => {
                    let digits: String = chars.by_ref().take(2).collect();
                    u8::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 2).ok_or_else(
                        || {
                            unknown(
                                text,
                                &format!("\\x{digits}"),
                                "two hexadecimal digits follow \\x",
                            )
                        },
                    )?
                }
                other => return Err(unknown(text, &shown('\\', other), ESCAPES)),
            });
            continue;
        }
        let piece = match escape {
            Some('%') => {
                literal.push(b'%');
                continue;
            }
            Some('t') => Piece::Topic,
            Some('p') => Piece::Partition,
            Some('o') => Piece::Offset,
            Some('T') => Piece::Timestamp,
            Some('k') => Piece::Key,
            Some('s') => Piece::Value,
            Some('h') => Piece::Headers,
            Some('K') => Piece::KeyLength,
            Some('S') => Piece::ValueLength,
            other => return Err(unknown(text, &shown('%', other), ESCAPES)),
        };
        if !literal.is_empty() {
            pieces.push(Piece::Literal(std::mem::take(&mut literal)));
        }
        pieces.push(piece);
    }
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

const ESCAPES: &str = r"use %t %p %o %T %k %s %h %K %S %% and \n \r \t \\ \xNN";

fn shown(first: char, second: Option<char>) -> String {
    std::iter::once(first).chain(second).collect()
}

fn unknown(text: &str, escape: &str, next: &str) -> Failure {
    Failure::usage(format!("cannot use the format {text}"), format!("{escape} means nothing"), next)
}

/// As one object of JSON. Bytes that are no UTF-8 stand in hexadecimal under another name.
impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("topic", self.topic)?;
        map.serialize_entry("partition", &self.partition)?;
        map.serialize_entry("offset", &self.offset)?;
        map.serialize_entry("timestamp", &self.timestamp)?;
        entry(&mut map, "key", self.key)?;
        entry(&mut map, "value", self.value)?;
        map.serialize_entry("headers", &Headers(self.headers))?;
        map.end()
    }
}

struct Headers<'a>(&'a [(&'a [u8], Option<&'a [u8]>)]);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(name, value)| Header { name, value: *value }))
    }
}

struct Header<'a> {
    name: &'a [u8],
    value: Option<&'a [u8]>,
}

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        entry(&mut map, "name", Some(self.name))?;
        entry(&mut map, "value", self.value)?;
        map.end()
    }
}

fn entry<M: SerializeMap>(map: &mut M, name: &str, bytes: Option<&[u8]>) -> Result<(), M::Error> {
    match bytes.map(|bytes| (bytes, str::from_utf8(bytes))) {
        None => map.serialize_entry(name, &None::<&str>),
        Some((_, Ok(text))) => map.serialize_entry(name, text),
        Some((bytes, Err(_))) => {
            let mut text = String::with_capacity(bytes.len() * 2);
            for byte in bytes {
                text.extend(char::from_digit(u32::from(byte >> 4), 16));
                text.extend(char::from_digit(u32::from(byte & 15), 16));
            }
            map.serialize_entry(&format!("{name}_hex"), &text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: Shown<'_> = Shown {
        topic: "t",
        partition: 3,
        offset: 42,
        timestamp: 1_700_000_000_000,
        key: Some(b"k1"),
        value: None,
        headers: &[(b"a", Some(b"1")), (b"b", None)],
    };

    fn render(format: &str) -> String {
        let mut out = Vec::new();
        OutputFormat::parse(format).expect(format).render(&RECORD, &mut out);
        String::from_utf8(out).expect("it is text")
    }

    #[test]
    fn records_are_rendered_as_kcat_does() {
        assert_eq!(render(r"%t [%p] at %o: %k=%s (%K, %S)\n"), "t [3] at 42: k1= (2, -1)\n");
        assert_eq!(render(r"%T|%h|100%%\t\x41\\"), "1700000000000|a=1,b=NULL|100%\tA\\");
    }

    #[test]
    fn an_unknown_escape_is_wrong_use() {
        for wrong in ["%q", "%", r"\q", r"\x4", "é%z"] {
            let failure = OutputFormat::parse(wrong).expect_err(wrong);
            assert!(failure.to_string().contains("means nothing"), "{failure}");
        }
    }

    #[test]
    fn a_line_is_taken_apart_by_the_text_between_its_fields() {
        let format = InputFormat::parse(r"%k\t%s\n").expect("it is a format");
        assert_eq!(format.split(b"a\tb\tc"), Some((Some(&b"a"[..]), Some(&b"b\tc"[..]))));
        assert_eq!(format.split(b"no tab"), None);
        let format = InputFormat::parse("<%s|%k>").expect("it is a format");
        assert_eq!(format.split(b"<v|k>"), Some((Some(&b"k"[..]), Some(&b"v"[..]))));
        assert_eq!(format.split(b"<v|k> "), None);
        let format = InputFormat::parse("%s").expect("it is a format");
        assert_eq!(format.split(b""), Some((None, Some(&b""[..]))));
    }

    #[test]
    fn input_formats_that_cannot_be_read_back_are_refused() {
        for wrong in ["%k", "%k%s", "%s %s", "%o %s", "plain"] {
            InputFormat::parse(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn json_keeps_null_apart_from_empty_and_bytes_that_are_no_text() {
        let record = Shown { key: Some(b"\xff"), value: Some(b""), headers: &[], ..RECORD };
        let json = serde_json::to_string(&record).expect("it is JSON");
        assert!(json.contains(r#""key_hex":"ff","value":"""#), "{json}");
        let json = serde_json::to_string(&RECORD).expect("it is JSON");
        assert!(json.contains(r#""value":null,"headers":[{"name":"a","value":"1"}"#), "{json}");
    }
}
