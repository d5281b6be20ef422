//! What a crash takes of the files.

use std::collections::BTreeMap;

use crate::disk::SimDisk;

/// The files of a disk as reads see them.
#[derive(Debug)]
pub(crate) struct Contents(BTreeMap<String, Vec<u8>>);

impl Contents {
    /// Reads all files.
    pub(crate) fn of(disk: &SimDisk) -> Self {
        let content = |name: &String| disk.page_image(name).unwrap_or_default().to_vec();
        Self(disk.files().into_iter().map(|name| (name.clone(), content(&name))).collect())
    }

    /// Says what of these files is not there any more.
    pub(crate) fn lost(&self, after: &Self, sector: u64) -> Vec<String> {
        let mut lost = Vec::new();
        for (name, before) in &self.0 {
            let Some(now) = after.0.get(name) else {
                lost.push(format!("{name}: the file, {} bytes", before.len()));
                continue;
            };
            let sector = sector as usize;
            let differs = |from: usize| {
                let part = |bytes: &[u8]| {
                    bytes.get(from..(from + sector).min(bytes.len())).unwrap_or_default().to_vec()
                };
                part(before) != part(now)
            };
            let sectors: Vec<usize> =
                (0..before.len()).step_by(sector).filter(|from| differs(*from)).collect();
            if !sectors.is_empty() {
                lost.push(format!("{name}: {}", ranges(&sectors, sector, before.len())));
            }
            if now.len() < before.len() {
                lost.push(format!("{name}: its length, {} of {} bytes", now.len(), before.len()));
            }
        }
        lost
    }
}

/// Names the bytes of sectors, joined where they follow each other.
fn ranges(sectors: &[usize], sector: usize, length: usize) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &from in sectors {
        let to = (from + sector).min(length);
        match ranges.last_mut() {
            Some((_, end)) if *end == from => *end = to,
            _ => ranges.push((from, to)),
        }
    }
    let words: Vec<String> =
        ranges.iter().take(4).map(|(from, to)| format!("bytes {from}..{to}")).collect();
    let more = if ranges.len() > 4 { " and more" } else { "" };
    let what = if sectors.len() == 1 { "sector" } else { "sectors" };
    format!("{} {what}, {}{more}", sectors.len(), words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(files: &[(&str, &[u8])]) -> Contents {
        Contents(files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect())
    }

    #[test]
    fn a_loss_is_told_by_file_and_sector() {
        let before = contents(&[("a", &[1; 2048]), ("b", &[2; 10]), ("c", &[3; 512])]);
        let mut rest = [1; 2048];
        rest[600..1500].fill(0);
        let after = contents(&[("a", &rest), ("c", &[3; 100])]);
        let lost = before.lost(&after, 512);
        assert_eq!(
            lost,
            [
                "a: 2 sectors, bytes 512..1536",
                "b: the file, 10 bytes",
                "c: 1 sector, bytes 0..512",
                "c: its length, 100 of 512 bytes",
            ]
        );
        assert_eq!(before.lost(&before, 512), [""; 0]);
    }
}
