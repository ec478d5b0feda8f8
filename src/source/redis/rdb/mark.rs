//! The mark that a server sends behind a snapshot whose size it does not know in advance.

use bytes::Bytes;
use std::collections::VecDeque;

/// The size of the mark, in bytes.
const SIZE: usize = 40;

/// Takes the mark off the end of a stream, where there is one.
///
/// With `repl-diskless-sync yes` a server announces 40 random hexadecimal digits, then sends the
/// snapshot and those digits behind it; `redis-cli --rdb -` passes them on. Where a stream ends is not
/// known before it does, so its last 40 bytes are held back. They are a mark if all of them are such
/// digits: a snapshot's own end has the byte 0xff among its last nine. Nothing is copied.
#[derive(Debug, Default)]
pub struct MarkStripper {
    tail: VecDeque<Bytes>,
    held: usize,
}

impl MarkStripper {
    /// For one stream, from its first byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece of the stream, and gives those that are not the mark for certain.
    #[must_use = "these pieces are not given again"]
    pub fn push(&mut self, bytes: Bytes) -> Vec<Bytes> {
        let mut passing = Vec::new();
        if bytes.is_empty() {
            return passing;
        }
        self.held += bytes.len();
        self.tail.push_back(bytes);
        while self.held > SIZE
            && let Some(mut piece) = self.tail.pop_front()
        {
            let over = self.held - SIZE;
            if piece.len() > over {
                let mark = piece.split_off(over);
                self.tail.push_front(mark);
            }
            self.held -= piece.len();
            passing.push(piece);
        }
        passing
    }

    /// The stream is over: what was held back, unless it is a mark.
    pub fn finish(self) -> Vec<Bytes> {
        let digits = self
            .tail
            .iter()
            .flatten()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match self.held == SIZE && digits {
            true => Vec::new(),
            false => self.tail.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MARK: &[u8; SIZE] = b"0123456789abcdef0123456789abcdef01234567";

    fn strip(stream: &[u8], cuts: &[usize]) -> Vec<u8> {
        let mut stripper = MarkStripper::new();
        let mut rest = Bytes::copy_from_slice(stream);
        let mut passed = Vec::new();
        for cut in cuts.iter().copied().chain([usize::MAX]) {
            let piece = rest.split_to(cut.min(rest.len()));
            passed.extend(stripper.push(piece).into_iter().flatten());
            assert!(stripper.held <= SIZE && stripper.tail.len() <= SIZE);
        }
        passed.extend(stripper.finish().into_iter().flatten());
        passed
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn takes_the_mark_off_and_nothing_else(
            mut body in proptest::collection::vec(any::<u8>(), 0..200),
            cuts in proptest::collection::vec(0_usize..60, 0..40),
        ) {
            // As every snapshot ends.
            body.extend(*b"\xff12345678");
            prop_assert_eq!(strip(&[&*body, MARK].concat(), &cuts), body.clone());
            prop_assert_eq!(strip(&body, &cuts), body);
        }
    }

    #[test]
    fn a_mark_is_forty_digits() {
        for byte in [b'g', b'A', 0xff] {
            let mut wrong = MARK.to_vec();
            wrong[17] = byte;
            assert_eq!(strip(&wrong, &[3]), wrong);
        }
        assert_eq!(strip(&MARK[1..], &[]), &MARK[1..]);
        assert_eq!(strip(b"", &[]), b"");
    }

    #[test]
    fn copies_nothing() {
        let stream = Bytes::from([&[7; 100][..], MARK].concat());
        let passed = MarkStripper::new().push(stream.clone());
        assert_eq!(passed.len(), 1);
        assert_eq!(passed[0].as_ptr(), stream.as_ptr());
    }
}
