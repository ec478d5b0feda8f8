//! Finds the end mark in a stream of chunks, and keeps the last words of stderr.

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;

/// The longest text between the nonce and the end of its line.
const LONGEST_STATUSES: usize = 64;

/// How much of a process's stderr is kept: the end, where the reason is.
const LAST_WORDS: usize = 64 * 1024;

/// Separates a producer's bytes from its end mark, `NONCE:STATUSES\n`.
///
/// The nonce is 16 random bytes that the producer has never seen, so wherever it stands, it is the
/// mark. Only a chunk's end that could be the beginning of a nonce is held back (for random bytes
/// one chunk in 256, 31 bytes at the most); everything else passes uncopied.
pub(super) struct Scanner {
    finder: Finder<'static>,
    held: Bytes,
    mark: Option<BytesMut>,
    statuses: Option<String>,
}

/// What is wrong with an end mark.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadMark {
    /// It is followed by more output.
    Followed,
    /// It is no mark of ours.
    Garbled,
}

impl Scanner {
    pub(super) fn new(nonce: &str) -> Self {
        Self {
            finder: Finder::new(nonce.as_bytes()).into_owned(),
            held: Bytes::new(),
            mark: None,
            statuses: None,
        }
    }

    /// Takes the next chunk; gives back what belongs to the producer, which may be nothing.
    pub(super) fn feed(&mut self, chunk: Bytes) -> Result<Bytes, BadMark> {
        if chunk.is_empty() {
            return Ok(chunk);
        }
        if self.mark.is_some() {
            self.extend_mark(&chunk)?;
            return Ok(Bytes::new());
        }
        let mut data = if self.held.is_empty() {
            chunk
        } else {
            let mut joined = BytesMut::with_capacity(self.held.len() + chunk.len());
            joined.extend_from_slice(&self.held);
            joined.extend_from_slice(&chunk);
            self.held = Bytes::new();
            joined.freeze()
        };
        if let Some(start) = self.finder.find(&data) {
            let mark = data.split_off(start);
            self.mark = Some(BytesMut::new());
            self.extend_mark(&mark[self.finder.needle().len()..])?;
        } else {
            self.held = data.split_off(self.possible_start(&data));
        }
        Ok(data)
    }

    /// The statuses of the end mark, once all of it was read.
    pub(super) fn statuses(&self) -> Option<&str> {
        self.statuses.as_deref()
    }

    /// Where a suffix of `data` begins that is a beginning of the nonce; its end if there is none.
    fn possible_start(&self, data: &[u8]) -> usize {
        let nonce = self.finder.needle();
        let from = data.len().saturating_sub(nonce.len() - 1);
        memchr::memchr_iter(nonce[0], &data[from..])
            .map(|offset| from + offset)
            .find(|&start| nonce.starts_with(&data[start..]))
            .unwrap_or(data.len())
    }

    fn extend_mark(&mut self, more: &[u8]) -> Result<(), BadMark> {
        if self.statuses.is_some() {
            return if more.is_empty() {
                Ok(())
            } else {
                Err(BadMark::Followed)
            };
        }
        let mark = self.mark.get_or_insert_default();
        mark.extend_from_slice(more);
        if let Some(end) = memchr::memchr(b'\n', mark) {
            if end + 1 != mark.len() {
                return Err(BadMark::Followed);
            }
            let line = mark.strip_prefix(b":").ok_or(BadMark::Garbled)?;
            let text = std::str::from_utf8(line).map_err(|_| BadMark::Garbled)?;
            self.statuses = Some(text.trim_end_matches('\n').to_owned());
        } else if mark.len() > LONGEST_STATUSES {
            return Err(BadMark::Garbled);
        }
        Ok(())
    }
}

/// The last [`LAST_WORDS`] bytes of a stream.
#[derive(Default)]
pub(in crate::docker) struct LastWords(BytesMut);

impl LastWords {
    pub(in crate::docker) fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(LAST_WORDS)..];
        let room = LAST_WORDS - bytes.len();
        if self.0.len() > room {
            // Cut to half, so that a chatty process does not cost a copy for each of its lines.
            let keep = room.min(LAST_WORDS / 2);
            let rest = self.0.split_off(self.0.len() - keep);
            self.0 = BytesMut::from(&rest[..]);
        }
        self.0.extend_from_slice(bytes);
    }

    /// All that was kept.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    /// The last few lines that say something, on one line, for a message.
    pub(in crate::docker) fn brief(&self) -> String {
        let text = self.text();
        let mut lines: Vec<&str> = text
            .lines()
            .rev()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .take(5)
            .collect();
        lines.reverse();
        lines.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NONCE: &str = "0123456789abcdef0123456789abcdef";

    fn scan(stream: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, Option<String>), BadMark> {
        let mut scanner = Scanner::new(NONCE);
        let mut data = Vec::new();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
        cuts.push(stream.len());
        cuts.sort_unstable();
        let mut from = 0;
        for cut in cuts {
            data.extend(scanner.feed(Bytes::copy_from_slice(&stream[from..cut]))?);
            from = cut;
        }
        Ok((data, scanner.statuses().map(ToOwned::to_owned)))
    }

    #[test]
    fn bytes_after_the_mark_are_noticed_in_the_same_chunk_and_in_the_next() {
        let stream = format!("data{NONCE}:c0\nx");
        assert_eq!(scan(stream.as_bytes(), &[]), Err(BadMark::Followed));
        let before_the_last = stream.len() - 1;
        assert_eq!(
            scan(stream.as_bytes(), &[before_the_last]),
            Err(BadMark::Followed)
        );
    }

    #[test]
    fn a_mark_without_an_end_is_not_waited_for() {
        let stream = format!("{NONCE}:{}", "0".repeat(200));
        assert_eq!(scan(stream.as_bytes(), &[]), Err(BadMark::Garbled));
        assert_eq!(
            scan(format!("{NONCE}c0\n").as_bytes(), &[]),
            Err(BadMark::Garbled)
        );
    }

    #[test]
    fn stderr_is_kept_to_its_end_and_bounded() {
        let mut words = LastWords::default();
        for number in 0..100_000 {
            words.push(format!("line {number}\n").as_bytes());
        }
        assert!(words.0.len() <= LAST_WORDS);
        assert!(words.brief().ends_with("line 99998; line 99999"));
        words.push(&vec![b'x'; 3 * LAST_WORDS]);
        assert_eq!(words.0.len(), LAST_WORDS);
    }

    proptest! {
        // An alphabet that makes half nonces likely.
        #[test]
        fn any_data_in_any_chunks_comes_through(
            data in prop::collection::vec(prop::sample::select(b"0123xyz\n:".to_vec()), 0..200),
            cuts in prop::collection::vec(0usize..400, 0..20),
            ended in any::<bool>(),
        ) {
            let mut stream = data.clone();
            if ended {
                stream.extend(format!("{NONCE}:c0 z7\n").bytes());
            } else {
                // Whatever is held back at the end of a stream without a mark is of no use.
                stream.push(b'!');
            }
            let (got, statuses) = scan(&stream, &cuts).unwrap();
            if ended {
                prop_assert_eq!(got, data);
                prop_assert_eq!(statuses.as_deref(), Some("c0 z7"));
            } else {
                prop_assert_eq!(got, stream);
                prop_assert_eq!(statuses, None);
            }
        }
    }
}
