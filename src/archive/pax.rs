//! PAX extended records: `LENGTH KEY=VALUE\n`, where the length counts itself.

/// Every record of one entry, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Records(Vec<u8>);

impl Records {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        // The length's own digits may add a digit.
        let mut length = rest + digits(rest);
        if digits(length) + rest != length {
            length = rest + digits(length);
        }
        self.0.extend_from_slice(length.to_string().as_bytes());
        self.0.push(b' ');
        self.0.extend_from_slice(key);
        self.0.push(b'=');
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }
}

fn digits(number: usize) -> usize {
    number.to_string().len()
}

/// A record's key and its value.
pub(super) type Record<'a> = (&'a [u8], &'a [u8]);

/// Reads records; `None` where they are not well formed.
pub(super) fn parse(mut bytes: &[u8]) -> Option<Vec<Record<'_>>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let blank = memchr::memchr(b' ', bytes)?;
        let length: usize = std::str::from_utf8(&bytes[..blank]).ok()?.parse().ok()?;
        if length <= blank + 1 {
            return None;
        }
        let record = bytes.get(blank + 1..length)?.strip_suffix(b"\n")?;
        let equals = memchr::memchr(b'=', record)?;
        records.push((&record[..equals], &record[equals + 1..]));
        bytes = &bytes[length..];
    }
    Some(records)
}

/// The name of an extended attribute as part of a key, which can't hold `=`: as GNU tar writes it.
pub(super) fn encode_name(name: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(name.len());
    for byte in name {
        match byte {
            b'%' => encoded.extend_from_slice(b"%25"),
            b'=' => encoded.extend_from_slice(b"%3D"),
            other => encoded.push(*other),
        }
    }
    encoded
}

/// [`encode_name`] back.
pub(super) fn decode_name(mut encoded: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(encoded.len());
    while let Some((first, rest)) = encoded.split_first() {
        let (byte, rest) = match encoded.get(..3) {
            Some(b"%25") => (b'%', &encoded[3..]),
            Some(b"%3D") => (b'=', &encoded[3..]),
            _ => (*first, rest),
        };
        name.push(byte);
        encoded = rest;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_length_counts_itself() {
        let mut records = Records::default();
        records.push(b"path", b"abc");
        assert_eq!(records.bytes(), b"12 path=abc\n");
        for length in 85..100 {
            let mut records = Records::default();
            records.push(b"k", &vec![b'v'; length]);
            let text = String::from_utf8(records.bytes().to_vec()).unwrap();
            let (said, _) = text.split_once(' ').unwrap();
            assert_eq!(said.parse::<usize>().unwrap(), text.len());
        }
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for wrong in [
            &b"x"[..],
            b"3 a=b\n",
            b"99 a=b\n",
            b"6 ab=\n6",
            b"5 ab\n",
            b"0 ",
            b"-6 a=b\n",
        ] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn records_come_back(pairs in prop::collection::vec(("[a-zA-Z.]{1,12}", prop::collection::vec(any::<u8>(), 0..120)), 0..5)) {
            let mut records = Records::default();
            for (key, value) in &pairs {
                records.push(key.as_bytes(), value);
            }
            let parsed = parse(records.bytes()).unwrap();
            prop_assert_eq!(parsed, pairs.iter().map(|(key, value)| (key.as_bytes(), &value[..])).collect::<Vec<_>>());
        }

        #[test]
        fn attribute_names_come_back(name in prop::collection::vec(prop::sample::select(b"user.%=253D".to_vec()), 0..20)) {
            let encoded = encode_name(&name);
            prop_assert!(!encoded.contains(&b'='));
            prop_assert_eq!(decode_name(&encoded), name);
        }
    }
}
