//! Kafka's JSON form of messages, for tests and tools.
//!
//! Field names in camelCase; `bytes` and `records` as base64; ids as Kafka prints them; a tagged
//! field at its default is absent, every other field of the version is there.

use std::fmt;

/// A JSON value.
pub type Json = serde_json::Value;

/// Why JSON is no message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JsonError {
    field: &'static str,
    expected: &'static str,
}

impl std::error::Error for JsonError {}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is no {}", self.field, self.expected)
    }
}

impl JsonError {
    /// Makes the error of a value that is not of the kind that is named.
    pub const fn expected(expected: &'static str) -> Self {
        Self { field: "", expected }
    }

    /// Names the field, unless one further inside has been named.
    #[must_use]
    pub fn within(self, field: &'static str) -> Self {
        if self.field.is_empty() { Self { field, ..self } } else { self }
    }
}

/// The fields of a message while they are collected.
#[derive(Default, Debug)]
pub struct Fields(serde_json::Map<String, Json>);

impl Fields {
    /// Adds a field by its name in the tables.
    pub fn insert(&mut self, name: &str, value: Json) {
        self.0.insert(camel_case(name), value);
    }

    /// Returns them as one object.
    pub fn into_json(self) -> Json {
        Json::Object(self.0)
    }
}

/// Finds a field by its name in the tables.
pub fn field<'a>(json: &'a Json, name: &str) -> Option<&'a Json> {
    json.get(camel_case(name))
}

fn camel_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut upper = false;
    for character in name.trim_start_matches("r#").chars() {
        if character == '_' {
            upper = true;
        } else if std::mem::take(&mut upper) {
            out.push(character.to_ascii_uppercase());
        } else {
            out.push(character);
        }
    }
    out
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Returns standard base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group
            .iter()
            .chain([0, 0].iter())
            .take(3)
            .fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte));
        for index in 0..4 {
            if index <= group.len() {
                let value = bits >> (18 - 6 * index) & 0x3f;
                out.push(char::from(ALPHABET[value as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

/// Reads standard base64 with padding.
pub fn parse_base64(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let digits = text.trim_end_matches('=').as_bytes();
    let mut out = Vec::with_capacity(digits.len() * 3 / 4);
    for group in digits.chunks(4) {
        let mut bits = 0_u32;
        for index in 0..4 {
            let value = match group.get(index) {
                Some(digit) => ALPHABET.iter().position(|known| known == digit)? as u32,
                None => 0,
            };
            bits = bits << 6 | value;
        }
        out.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    Some(out)
}
