//! `--delay` and `--at` of `mainspring produce`: records that come later.

use bytes::Bytes;
use mainspring_core::record::headers;
use mainspring_core::wire::KafkaString;

use super::connect::{Connection, Requests};
use super::failure::{Code, Failure};
use super::time;
use crate::client::operations::Operations;

/// The setting of a topic that lists what its records may ask for.
const FEATURES: &str = "mainspring.features";
/// What a record that comes later needs there.
const SCHEDULE: &str = "schedule";

/// Flags of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Later {
    /// Deliver all records after a while, such as 5m or 1h30m; the topic needs mainspring.features=schedule
    #[arg(long, value_name = "DURATION", conflicts_with = "at")]
    delay: Option<String>,
    /// Deliver all records at a moment, such as 2026-12-24T18:00:00+01:00 or Unix milliseconds
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
}

impl Later {
    /// Returns the header that asks for it, where it is asked for.
    pub(crate) fn header(&self) -> Result<Option<(Bytes, Option<Bytes>)>, Failure> {
        let (name, millis) = if let Some(text) = &self.delay {
            let delay = time::parse_duration_ms(text).ok_or_else(|| {
                Failure::usage(
                    format!("cannot use --delay {text}"),
                    "it is no length of time",
                    "write it as --delay 1h30m, with the units d, h, m, s and ms",
                )
            })?;
            (headers::DELAY_MS, delay)
        } else if let Some(text) = &self.at {
            let moment = time::parse_millis(text).ok_or_else(|| {
                Failure::usage(
                    format!("cannot use --at {text}"),
                    "it is no moment",
                    "write it as --at 2026-12-24T18:00:00Z, or as Unix milliseconds",
                )
            })?;
            (headers::DELIVER_AT, moment)
        } else {
            return Ok(None);
        };
        Ok(Some((Bytes::from_static(name), Some(millis.to_string().into()))))
    }
}

/// Refuses to send what nobody would hold back: without the feature, the header is plain data.
pub(crate) async fn check_topic(
    name: &KafkaString,
    connection: &Connection,
) -> Result<(), Failure> {
    let what = format!("cannot delay records of the topic {name}");
    let mut operations = Operations::new(Requests::new(connection)?, connection.timeout()?);
    let features = operations.features(name).await.map_err(|ended| ended.of(&what))?;
    if features.iter().any(|feature| feature == SCHEDULE) {
        return Ok(());
    }
    let set = [&features[..], &[SCHEDULE.to_owned()]].concat().join(",");
    Err(Failure::new(
        Code::Failed,
        what,
        format!("its setting {FEATURES} lacks {SCHEDULE}"),
        format!("set it with mainspring topic alter {name} -c {FEATURES}={set}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(delay: Option<&str>, at: Option<&str>) -> Option<(Bytes, Option<Bytes>)> {
        let args = Later { delay: delay.map(str::to_owned), at: at.map(str::to_owned) };
        args.header().expect("sound")
    }

    #[test]
    fn a_delay_and_a_moment_are_headers_of_each_record() {
        let pair = |name: &'static str, value: &'static str| {
            Some((Bytes::from(name), Some(Bytes::from(value))))
        };
        assert_eq!(header(Some("1m30s"), None), pair("mainspring-delay-ms", "90000"));
        let at = "2026-11-22T11:00:00+01:00";
        assert_eq!(header(None, Some(at)), pair("mainspring-deliver-at", "1795341600000"));
        assert_eq!(header(None, None), None);
    }

    #[test]
    fn what_is_neither_is_a_wrong_use() {
        for (delay, at) in [(Some("soon"), None), (Some("5"), None), (None, Some("tomorrow"))] {
            let args = Later { delay: delay.map(str::to_owned), at: at.map(str::to_owned) };
            assert_eq!(args.header().expect_err("refused").code, Code::Usage);
        }
    }
}
