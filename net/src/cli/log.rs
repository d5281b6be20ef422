//! `mainspring log`: shows and checks the files of a log, with no broker and without changing any.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use mainspring_core::ids::Offset;
use mainspring_core::log::dump::{self, FileKind, SegmentDump};
use mainspring_core::log::verify::{SegmentFault, SegmentScan};
use mainspring_core::record::batch::BatchError;
use serde::Serialize;

use super::failure::{Code, Failure, words};
use super::output::{Format, Output, Stop, Table};

/// Bytes of a segment that are in memory at the same time, besides its largest batch.
const PIECE: usize = 1 << 20;
/// Largest file that is shown and is no segment: they hold at most a few entries for each batch.
const WHOLE_MAX: u64 = 1 << 30;

/// What to do with the files of a log.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show what a file of a log holds: segment, index, snapshot or epochs
    Dump {
        /// The file; its name says what it holds
        file: PathBuf,
        /// Show the records of a segment too
        #[arg(long)]
        records: bool,
    },
    /// Check every segment of a data directory, or of one TOPIC-PARTITION folder
    Verify {
        /// The directory
        dir: PathBuf,
        /// How to print the result
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
}

/// Runs the command.
pub(crate) fn run(command: &Command) -> Result<(), Stop> {
    match command {
        Command::Dump { file, records } => dump_file(file, *records),
        Command::Verify { dir, output } => verify(dir, *output),
    }
}

fn dump_file(path: &Path, with_records: bool) -> Result<(), Stop> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let kind = name.as_deref().and_then(FileKind::of).ok_or_else(|| {
        Failure::usage(
            format!("cannot dump {}", path.display()),
            "its name is none of a log's files",
            "name a .log, .index, .timeindex, .txnindex, .snapshot, .producers or leader-epoch-checkpoint",
        )
    })?;
    let mut output = Output::new();
    let mut failed = None;
    let mut line = |text: &str| {
        if failed.is_none() {
            failed = output.line(text).err();
        }
    };
    let mut file = open(path)?;
    if let FileKind::Segment(base_offset) = kind {
        let mut segment = SegmentDump::new(base_offset, with_records);
        pieces(&mut file, path, |bytes| segment.push(bytes, &mut line))?;
        segment.finish(&mut line);
    } else {
        let mut bytes = Vec::new();
        file.take(WHOLE_MAX).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
        dump::dump(kind, &bytes, with_records, &mut line);
    }
    match failed {
        Some(stop) => Err(stop),
        None => output.flush(),
    }
}

/// What was found in one partition's folder.
#[derive(Serialize)]
struct Report {
    partition: String,
    segments: usize,
    batches: u64,
    records: u64,
    bytes: u64,
    start_offset: i64,
    end_offset: i64,
    /// Bytes at the end that are no whole batch: a kill leaves them, the next start writes them again.
    unfinished_bytes: usize,
    faults: Vec<String>,
}

fn verify(directory: &Path, format: Format) -> Result<(), Stop> {
    let mut folders = BTreeMap::new();
    if segments_in(directory)?.is_empty() {
        let entries = fs::read_dir(directory).map_err(|error| unreadable(directory, &error))?;
        for entry in entries {
            let path = entry.map_err(|error| unreadable(directory, &error))?.path();
            if path.is_dir() && !path.is_symlink() {
                let segments = segments_in(&path)?;
                if !segments.is_empty() {
                    folders.insert(path, segments);
                }
            }
        }
    } else {
        folders.insert(directory.to_owned(), segments_in(directory)?);
    }
    let mut reports = Vec::new();
    for (folder, segments) in folders {
        reports.push(verify_folder(&folder, &segments)?);
    }
    let faults: usize = reports.iter().map(|report| report.faults.len()).sum();
    print(&reports, format)?;
    if faults == 0 {
        return Ok(());
    }
    Err(Failure::new(
        Code::Failed,
        format!("{} is damaged", directory.display()),
        format!("{faults} faults were found"),
        "look at the files named above with mainspring log dump, and restore them from a copy",
    )
    .into())
}

fn verify_folder(folder: &Path, segments: &[(Offset, PathBuf)]) -> Result<Report, Failure> {
    let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned();
    let start = segments.first().map_or(Offset::ZERO, |(base, _)| *base);
    let mut report = Report {
        partition: name,
        segments: segments.len(),
        batches: 0,
        records: 0,
        bytes: 0,
        start_offset: start.0,
        end_offset: start.0,
        unfinished_bytes: 0,
        faults: Vec::new(),
    };
    for (index, (base, path)) in segments.iter().enumerate() {
        let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut note = |position: u64, fault: &dyn std::fmt::Display| {
            report.faults.push(format!("{file_name} at position {position}: {fault}"));
        };
        if base.0 != report.end_offset {
            note(0, &format!("begins at offset {base}, expected {}", report.end_offset));
        }
        let mut scan = SegmentScan::new(Some(*base));
        let mut file = open(path)?;
        pieces(&mut file, path, |bytes| {
            scan.push(bytes);
            while let Some(scanned) = scan.next_batch() {
                match scanned {
                    Ok(batch) => batch.faults.iter().for_each(|fault| note(batch.position, fault)),
                    Err(fault) => note(scan.summary().bytes, &fault),
                }
            }
        })?;
        let (summary, left) = scan.finish();
        let is_last = index + 1 == segments.len();
        match left {
            Some(SegmentFault::NoBatch(BatchError::Cut { have, .. })) if is_last => {
                report.unfinished_bytes = have;
            }
            Some(fault) => note(summary.bytes, &fault),
            None => {}
        }
        report.batches += summary.batches;
        report.records += summary.records;
        report.bytes += summary.bytes;
        report.end_offset = summary.end_offset.unwrap_or(*base).0;
    }
    Ok(report)
}

fn print(reports: &[Report], format: Format) -> Result<(), Stop> {
    let mut output = Output::new();
    match format {
        Format::Json => output.json(&reports)?,
        Format::Jsonl => {
            for report in reports {
                output.json(report)?;
            }
        }
        Format::Table => {
            let mut table = Table::new(&[
                "partition",
                "segments",
                "batches",
                "records",
                "bytes",
                "start",
                "end",
                "faults",
            ]);
            for report in reports {
                table.row([
                    report.partition.clone(),
                    report.segments.to_string(),
                    report.batches.to_string(),
                    report.records.to_string(),
                    report.bytes.to_string(),
                    report.start_offset.to_string(),
                    report.end_offset.to_string(),
                    report.faults.len().to_string(),
                ]);
            }
            output.line(&table.to_string())?;
            for report in reports {
                for fault in &report.faults {
                    output.line(&format!("{}/{fault}", report.partition))?;
                }
            }
        }
    }
    output.flush()
}

/// Returns the segments of a folder in the order of their offsets.
fn segments_in(folder: &Path) -> Result<Vec<(Offset, PathBuf)>, Failure> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, &error))? {
        let path = entry.map_err(|error| unreadable(folder, &error))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(FileKind::Segment(base)) = FileKind::of(&name)
            && path.is_file()
        {
            segments.push((base, path));
        }
    }
    segments.sort();
    Ok(segments)
}

fn open(path: &Path) -> Result<File, Failure> {
    if path.is_dir() {
        return Err(unreadable(path, &io::ErrorKind::IsADirectory.into()));
    }
    File::open(path).map_err(|error| unreadable(path, &error))
}

fn pieces(file: &mut File, path: &Path, mut take: impl FnMut(&[u8])) -> Result<(), Failure> {
    let mut buffer = vec![0; PIECE];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => take(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(path, &error)),
        }
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let kind = error.kind();
    let code = if kind == io::ErrorKind::NotFound {
        Code::NotFound
    } else if kind == io::ErrorKind::PermissionDenied {
        Code::NotAllowed
    } else {
        Code::Failed
    };
    let what = format!("cannot read {}", path.display());
    Failure::new(code, what, words(error), "name a file or directory that can be read")
}

#[cfg(test)]
mod tests {
    use mainspring_core::ids::LeaderEpoch;
    use mainspring_core::record::builder::BatchBuilder;
    use mainspring_core::record::compress::Codec;

    use super::*;
    use crate::test_support::TempDir;

    /// Writes a segment with batches of one record from an offset on.
    fn segment(folder: &Path, base: i64, batches: i64) -> PathBuf {
        let mut bytes = Vec::new();
        for offset in base..base + batches {
            let mut builder = BatchBuilder::new(Codec::None);
            builder.push(1, Some(b"key"), Some(b"value"), &[]);
            let mut batch = builder.build();
            batch.assign(Offset(offset), LeaderEpoch(0));
            bytes.extend_from_slice(&batch.to_bytes());
        }
        let path = folder.join(format!("{base:020}.log"));
        fs::write(&path, bytes).expect("a file is written");
        path
    }

    fn folder() -> TempDir {
        let folder = TempDir::new();
        segment(folder.path(), 0, 3);
        segment(folder.path(), 3, 2);
        folder
    }

    fn report(folder: &Path) -> Report {
        let segments = segments_in(folder).expect("it is readable");
        verify_folder(folder, &segments).expect("it is readable")
    }

    #[test]
    fn a_sound_log_has_no_faults() {
        let folder = folder();
        let report = report(folder.path());
        assert!(report.faults.is_empty(), "{:?}", report.faults);
        assert_eq!((report.segments, report.batches, report.records), (2, 5, 5));
        assert_eq!((report.start_offset, report.end_offset), (0, 5));
    }

    #[test]
    fn a_flipped_bit_is_found_with_its_place() {
        let folder = folder();
        let path = segment(folder.path(), 0, 3);
        let mut bytes = fs::read(&path).expect("it is there");
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, bytes).expect("a file is written");
        let faults = report(folder.path()).faults;
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains("CRC") && faults[0].starts_with("00000000000000000000.log at"));
        let Err(Stop::Failed(failure)) = verify(folder.path(), Format::Json) else {
            panic!("damage is a failure");
        };
        assert_eq!(failure.code, Code::Failed);
    }

    #[test]
    fn a_hole_between_segments_is_a_fault_and_a_cut_end_of_the_last_is_not() {
        let hole = TempDir::new();
        segment(hole.path(), 0, 3);
        segment(hole.path(), 4, 1);
        let faults = report(hole.path()).faults;
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains("expected 3"), "{faults:?}");

        let cut = folder();
        let path = segment(cut.path(), 3, 2);
        let bytes = fs::read(&path).expect("it is there");
        fs::write(&path, &bytes[..bytes.len() - 7]).expect("a file is written");
        let report = report(cut.path());
        assert!(report.faults.is_empty(), "{:?}", report.faults);
        assert_eq!((report.end_offset, report.unfinished_bytes), (4, bytes.len() / 2 - 7));
    }

    #[test]
    fn a_missing_file_is_not_found_and_a_strange_name_is_wrong_use() {
        let missing = dump_file(Path::new("no/such/00000000000000000000.log"), false);
        assert!(matches!(missing, Err(Stop::Failed(failure)) if failure.code == Code::NotFound));
        let strange = dump_file(Path::new("notes.txt"), false);
        assert!(matches!(strange, Err(Stop::Failed(failure)) if failure.code == Code::Usage));
    }
}
