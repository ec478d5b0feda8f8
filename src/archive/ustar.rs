//! The header block of POSIX `ustar`: 512 bytes before each entry.

/// The size of a block, in bytes: headers are one, and data is padded to whole ones.
pub(super) const BLOCK: usize = 512;
/// The largest number that a field of 11 octal digits holds: sizes and times beyond it are PAX records.
pub(super) const LARGEST: u64 = 0o777_7777_7777;
/// The largest number that a field of 7 octal digits holds.
pub(super) const LARGEST_ID: u32 = 0o777_7777;
/// The longest name that a header holds, in bytes; the prefix field is not used.
pub(super) const LONGEST_NAME: usize = 100;

/// What a header says. Numbers that do not fit are cut to zero: a PAX record says them then.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) name: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) size: u64,
    pub(super) mtime: u64,
    pub(super) typeflag: u8,
    pub(super) linkname: Vec<u8>,
}

/// Why a block is no header.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoHeader {
    /// It is all zeros: the end of the archive.
    Zeros,
    /// It is not what it should be, and why.
    Bad(&'static str),
}

impl Header {
    pub(super) fn encode(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let text = |block: &mut [u8], value: &[u8]| {
            let length = value.len().min(block.len());
            block[..length].copy_from_slice(&value[..length]);
        };
        text(&mut block[0..100], &self.name);
        octal(&mut block[100..108], u64::from(self.mode));
        octal(&mut block[108..116], self.uid);
        octal(&mut block[116..124], self.gid);
        octal(&mut block[124..136], self.size);
        octal(&mut block[136..148], self.mtime);
        block[156] = self.typeflag;
        text(&mut block[157..257], &self.linkname);
        block[257..265].copy_from_slice(b"ustar\x0000");
        octal(&mut block[329..337], 0);
        octal(&mut block[337..345], 0);
        let sum = checksum(&block);
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }

    pub(super) fn decode(block: &[u8; BLOCK]) -> Result<Self, NoHeader> {
        if block.iter().all(|byte| *byte == 0) {
            return Err(NoHeader::Zeros);
        }
        let bad = NoHeader::Bad;
        if number(&block[148..156]) != Some(u64::from(checksum(block))) {
            return Err(bad("its checksum is wrong"));
        }
        if &block[257..263] != b"ustar\0" {
            return Err(bad("it is not of POSIX tar"));
        }
        let field = |range: std::ops::Range<usize>, what: &'static str| {
            number(&block[range]).ok_or(NoHeader::Bad(what))
        };
        let mut name = text(&block[0..100]).to_vec();
        let prefix = text(&block[345..500]);
        if !prefix.is_empty() {
            name = [prefix, b"/", &name[..]].concat();
        }
        let mode = field(100..108, "its mode is no number")?;
        Ok(Self {
            name,
            mode: u32::try_from(mode & 0o7777).unwrap_or_default(),
            uid: field(108..116, "its owner is no number")?,
            gid: field(116..124, "its group is no number")?,
            size: field(124..136, "its size is no number")?,
            mtime: field(136..148, "its time is no number")?,
            typeflag: block[156],
            linkname: text(&block[157..257]).to_vec(),
        })
    }
}

/// The sum of a block's bytes, its checksum field counted as blanks.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    sum(&block[..148]) + 8 * u32::from(b' ') + sum(&block[156..])
}

/// `value` in octal digits with a NUL after them; zero where it does not fit.
fn octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let mut text = format!("{value:0digits$o}");
    if text.len() > digits {
        text = "0".repeat(digits);
    }
    field[..digits].copy_from_slice(text.as_bytes());
}

/// Octal digits, blanks before and blanks or NULs after them. GNU's numbers in base 256 are not read: a POSIX
/// archive has PAX records instead.
fn number(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    let text = text.trim_matches([' ', '\0']);
    match text {
        "" => Some(0),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            u64::from_str_radix(digits, 8).ok()
        }
        _ => None,
    }
}

/// Bytes up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    let end = memchr::memchr(0, field).unwrap_or(field.len());
    &field[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_back() {
        let header = Header {
            name: vec![b'n'; 100],
            mode: 0o7777,
            uid: u64::from(LARGEST_ID),
            gid: 0,
            size: LARGEST,
            mtime: 1,
            typeflag: b'2',
            linkname: b"target".to_vec(),
        };
        assert_eq!(Header::decode(&header.encode()), Ok(header.clone()));
        assert_eq!(Header::decode(&[0; BLOCK]), Err(NoHeader::Zeros));
        let mut flipped = header.encode();
        flipped[3] ^= 1;
        assert_eq!(
            Header::decode(&flipped),
            Err(NoHeader::Bad("its checksum is wrong"))
        );
    }
}
