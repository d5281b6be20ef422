//! The four codecs of record batches, each whole or not at all.
//!
//! Decompression is bounded by one absolute number of output bytes, counted while it streams; no
//! length that a stream announces is believed before its bytes are there. Codecs differ in what
//! they allow behind the end of a stream, and here they do as Kafka's readers: gzip takes further
//! members and ignores what is none, lz4 ends with its first frame, zstd takes further frames,
//! snappy and zstd refuse anything else.

use std::io::{self, Read, Write};

use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

/// How the records of a batch are compressed: attribute bits 0 to 2.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Codec {
    /// They are not.
    #[default]
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Snappy, in the blocks that Java's library makes of it, or raw.
    Snappy,
    /// LZ4 frames of independent blocks.
    Lz4,
    /// Zstandard (RFC 8878).
    Zstd,
}

impl Codec {
    /// Every codec, in the order of the numbers.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// Returns the codec with this number in a batch's attributes, `None` for 5, 6 and 7.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Returns the number in a batch's attributes.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Returns the name as `compression.type` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// Returns the codec with this name; `uncompressed` is none too, as in `compression.type`.
    pub fn from_name(name: &str) -> Option<Self> {
        if name == "uncompressed" {
            return Some(Self::None);
        }
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }
}

/// Why a compressed stream gave nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompressError {
    /// The stream is damaged, cut off, or another codec's.
    #[error("the {} stream is damaged", .0.name())]
    Damaged(Codec),
    /// The stream holds more than is allowed.
    #[error("the records take more than {0} bytes uncompressed")]
    TooLarge(usize),
}

/// Decompresses the whole payload of a batch into at most `max_bytes`.
///
/// # Errors
/// [`CompressError`] where the stream is not whole and sound, or holds more.
pub fn decompress(
    codec: Codec,
    payload: &[u8],
    max_bytes: usize,
) -> Result<Vec<u8>, CompressError> {
    let mut out = Sink { bytes: Vec::new(), max_bytes, codec };
    match codec {
        Codec::None => out.take(payload)?,
        Codec::Gzip => gunzip(payload, &mut out)?,
        Codec::Snappy => unsnappy(payload, &mut out)?,
        Codec::Lz4 => {
            let frame = lz4_frame(payload).ok_or(CompressError::Damaged(codec))?;
            out.drain(&mut FrameDecoder::new(frame))?;
        }
        Codec::Zstd => {
            if payload.is_empty() {
                return Err(out.damaged());
            }
            // A window of more than 128 MiB is refused by the library; memory of a smaller one is
            // touched only as far as output comes.
            let decoder = zstd::stream::read::Decoder::with_buffer(payload);
            out.drain(&mut decoder.map_err(|_| out.damaged())?)?;
        }
    }
    Ok(out.bytes)
}

/// Compresses the records of a batch at the codec's default level.
pub fn compress(codec: Codec, records: &[u8]) -> Vec<u8> {
    compress_at(codec, None, records)
}

/// Compresses the records of a batch at a level: gzip has 0 to 9, zstd -7 to 22, and what lies beyond
/// counts as the nearest. The others have none. `None` is the codec's default.
pub fn compress_at(codec: Codec, level: Option<i32>, records: &[u8]) -> Vec<u8> {
    match codec {
        Codec::None => records.to_vec(),
        Codec::Gzip => {
            let level = level.map_or_else(flate2::Compression::default, |level| {
                flate2::Compression::new(level.clamp(0, 9) as u32)
            });
            let mut encoder = GzEncoder::new(Vec::new(), level);
            let written = encoder.write_all(records).and_then(|()| encoder.finish());
            written.expect("writing to memory cannot fail")
        }
        Codec::Snappy => snappy(records),
        Codec::Lz4 => {
            // Java's reader takes independent blocks only.
            let info =
                FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
            let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(records).expect("writing to memory cannot fail");
            encoder.finish().expect("writing to memory cannot fail")
        }
        Codec::Zstd => {
            let level = level.map_or(zstd::DEFAULT_COMPRESSION_LEVEL, |level| level.clamp(-7, 22));
            zstd::bulk::compress(records, level)
                .expect("memory suffices for the output of the level")
        }
    }
}

/// Output that stops at its limit.
struct Sink {
    bytes: Vec<u8>,
    max_bytes: usize,
    codec: Codec,
}

impl Sink {
    const fn damaged(&self) -> CompressError {
        CompressError::Damaged(self.codec)
    }

    fn room(&self) -> usize {
        self.max_bytes - self.bytes.len()
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), CompressError> {
        if bytes.len() > self.room() {
            return Err(CompressError::TooLarge(self.max_bytes));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Takes all that a decoder gives.
    fn drain(&mut self, decoder: &mut impl Read) -> Result<(), CompressError> {
        let damaged = |_: io::Error| CompressError::Damaged(self.codec);
        let room = self.room() as u64;
        let took = decoder.take(room + 1).read_to_end(&mut self.bytes).map_err(damaged)?;
        if took as u64 > room {
            return Err(CompressError::TooLarge(self.max_bytes));
        }
        Ok(())
    }
}

fn gunzip(payload: &[u8], out: &mut Sink) -> Result<(), CompressError> {
    let mut rest = payload;
    loop {
        let mut member = GzDecoder::new(rest);
        if member.header().is_none() {
            // What follows the first member and is no member is ignored, as by Java's reader.
            let is_first = rest.len() == payload.len();
            return if is_first { Err(out.damaged()) } else { Ok(()) };
        }
        out.drain(&mut member)?;
        rest = member.into_inner();
    }
}

/// What Java's library writes before its blocks: magic, version and oldest compatible version.
const SNAPPY_HEADER: &[u8; 16] = b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01";
const SNAPPY_MAGIC: &[u8; 8] = b"\x82SNAPPY\x00";
const SNAPPY_BLOCK_LEN: usize = 32 << 10;

fn unsnappy(payload: &[u8], out: &mut Sink) -> Result<(), CompressError> {
    if !payload.starts_with(SNAPPY_MAGIC) {
        return unsnappy_block(payload, out);
    }
    let mut rest = payload;
    while !rest.is_empty() {
        if rest.starts_with(SNAPPY_MAGIC) {
            // Versions beyond the first do not exist; streams may follow each other.
            rest = rest.get(SNAPPY_HEADER.len()..).ok_or_else(|| out.damaged())?;
            continue;
        }
        let (len, blocks) = rest.split_first_chunk::<4>().ok_or_else(|| out.damaged())?;
        let len = u32::from_be_bytes(*len) as usize;
        let (block, behind) = blocks.split_at_checked(len).ok_or_else(|| out.damaged())?;
        unsnappy_block(block, out)?;
        rest = behind;
    }
    Ok(())
}

fn unsnappy_block(block: &[u8], out: &mut Sink) -> Result<(), CompressError> {
    let announced = snap::raw::decompress_len(block).map_err(|_| out.damaged())?;
    // The longest copy makes 64 bytes out of 3: no honest block announces more.
    if block.is_empty() || announced / 22 > block.len() {
        return Err(out.damaged());
    }
    if announced > out.room() {
        return Err(CompressError::TooLarge(out.max_bytes));
    }
    let start = out.bytes.len();
    out.bytes.resize(start + announced, 0);
    let written = snap::raw::Decoder::new().decompress(block, &mut out.bytes[start..]);
    if written == Ok(announced) { Ok(()) } else { Err(out.damaged()) }
}

fn snappy(records: &[u8]) -> Vec<u8> {
    let mut out = SNAPPY_HEADER.to_vec();
    for block in records.chunks(SNAPPY_BLOCK_LEN) {
        let packed = snap::raw::Encoder::new()
            .compress_vec(block)
            .expect("a block is far below the format's limit");
        out.extend_from_slice(&(packed.len() as u32).to_be_bytes());
        out.extend_from_slice(&packed);
    }
    out
}

/// Finds the first LZ4 frame and its end mark; `None` where it is not whole.
///
/// The decoder takes a stream that ends between two blocks for a whole one, so the blocks are walked
/// here. Linked blocks are refused: Java's consumers could not read them.
fn lz4_frame(payload: &[u8]) -> Option<&[u8]> {
    const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
    const INDEPENDENT: u8 = 0x20;
    const BLOCK_CHECKSUM: u8 = 0x10;
    const CONTENT_SIZE: u8 = 0x08;
    const CONTENT_CHECKSUM: u8 = 0x04;
    const DICTIONARY: u8 = 0x01;

    let flags = *payload.strip_prefix(&MAGIC)?.first()?;
    if flags & INDEPENDENT == 0 || flags & DICTIONARY != 0 {
        return None;
    }
    let per_block = if flags & BLOCK_CHECKSUM == 0 { 0 } else { 4 };
    let mut at = if flags & CONTENT_SIZE == 0 { 7 } else { 15 };
    loop {
        let word = payload.get(at..)?.first_chunk::<4>()?;
        let len = (u32::from_le_bytes(*word) & 0x7fff_ffff) as usize;
        at += 4;
        if len == 0 {
            break;
        }
        at = at.checked_add(len)?.checked_add(per_block)?;
    }
    let end = if flags & CONTENT_CHECKSUM == 0 { at } else { at + 4 };
    payload.get(..end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COMPRESSED: [Codec; 4] = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    fn text(len: usize) -> Vec<u8> {
        (0..len).map(|i| b"record batches"[(i + i / 97) % 14]).collect()
    }

    #[test]
    fn what_is_compressed_comes_back() {
        for codec in Codec::ALL {
            for len in [1, 100, 32 << 10, (32 << 10) + 1, 300_000] {
                let packed = compress(codec, &text(len));
                assert_eq!(decompress(codec, &packed, len), Ok(text(len)), "{codec:?} {len}");
            }
        }
    }

    #[test]
    fn output_stops_at_the_limit() {
        for codec in Codec::ALL {
            let packed = compress(codec, &vec![0; 1 << 20]);
            let result = decompress(codec, &packed, (1 << 20) - 1);
            assert_eq!(result, Err(CompressError::TooLarge((1 << 20) - 1)), "{codec:?}");
        }
    }

    #[test]
    fn a_stream_that_is_cut_anywhere_is_damaged() {
        for codec in COMPRESSED {
            let packed = compress(codec, &text(70_000));
            for cut in 0..packed.len() {
                let result = decompress(codec, &packed[..cut], 1 << 20);
                // Snappy has no end mark: a cut between two of its blocks is a shorter stream.
                let shorter =
                    codec == Codec::Snappy && result.as_ref().is_ok_and(|r| r.len() < 70_000);
                assert!(shorter || result == Err(CompressError::Damaged(codec)), "{codec:?} {cut}");
            }
        }
    }

    #[test]
    fn behind_the_end_gzip_and_lz4_take_anything_and_the_others_nothing() {
        for codec in COMPRESSED {
            let mut packed = compress(codec, &text(100));
            packed.extend_from_slice(b"behind the end of the stream");
            let expected = match codec {
                Codec::Gzip | Codec::Lz4 => Ok(text(100)),
                Codec::Snappy | Codec::Zstd | Codec::None => Err(CompressError::Damaged(codec)),
            };
            assert_eq!(decompress(codec, &packed, 1_000), expected, "{codec:?}");
        }
    }

    #[test]
    fn a_second_stream_is_read_as_well_where_kafka_reads_it() {
        for codec in COMPRESSED {
            let packed = [compress(codec, &text(100)), compress(codec, &text(50))].concat();
            let both = [text(100), text(50)].concat();
            let expected = if codec == Codec::Lz4 { text(100) } else { both };
            assert_eq!(decompress(codec, &packed, 1_000), Ok(expected), "{codec:?}");
        }
    }

    #[test]
    fn raw_snappy_is_read() {
        let raw = snap::raw::Encoder::new().compress_vec(&text(1_000)).expect("small");
        assert_eq!(decompress(Codec::Snappy, &raw, 1_000), Ok(text(1_000)));
    }

    #[test]
    fn a_snappy_block_that_announces_a_gigabyte_allocates_nothing() {
        let block = [0x80, 0x80, 0x80, 0x80, 0x04, 0];
        let result = decompress(Codec::Snappy, &block, usize::MAX);
        assert_eq!(result, Err(CompressError::Damaged(Codec::Snappy)));
    }

    #[test]
    fn linked_lz4_blocks_are_refused() {
        let info = FrameInfo::new().block_mode(BlockMode::Linked);
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&text(1_000)).expect("memory");
        let packed = encoder.finish().expect("memory");
        assert_eq!(decompress(Codec::Lz4, &packed, 1_000), Err(CompressError::Damaged(Codec::Lz4)));
    }

    proptest! {
        #[test]
        fn a_damaged_stream_never_panics_and_never_exceeds_the_limit(
            which in 0..4usize,
            len in 0..5_000usize,
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let codec = COMPRESSED[which];
            let mut packed = compress(codec, &text(len));
            for (at, value) in flips {
                let at = at.index(packed.len());
                packed[at] = value;
            }
            if let Ok(bytes) = decompress(codec, &packed, 4_000) {
                prop_assert!(bytes.len() <= 4_000);
            }
        }

        #[test]
        fn random_bytes_never_panic(which in 0..4usize, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decompress(COMPRESSED[which], &bytes, 10_000);
        }
    }
}
