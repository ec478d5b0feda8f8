//! age: who a stream is encrypted to, who can open it, and both directions as stages of a pipeline.

use super::halves::{self, Input, Measured, Output, Pieces};
use super::inspector::Inspection;
use crate::error::{Error, Kind, OrFail, Result};
use age::{DecryptError, Decryptor, Encryptor};
use bytes::{Buf, Bytes};
use secrecy::SecretString;
use std::fmt;
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How much is decrypted at once.
const PIECE: usize = 256 * 1024;

/// The most work that opening something encrypted to a passphrase may take, as a power of two: a gigabyte of memory
/// and some seconds. A file from an enemy could ask for hours.
const MOST_WORK: u8 = 20;

/// Who something is encrypted to: public keys, or a passphrase. Cheap to clone.
#[derive(Clone)]
pub struct Recipients(Arc<To>);

enum To {
    Keys(Vec<Box<dyn age::Recipient + Send + Sync>>),
    Passphrase(SecretString),
}

impl fmt::Debug for Recipients {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            To::Keys(keys) => write!(formatter, "Recipients({})", keys.len()),
            To::Passphrase(_) => formatter.write_str("Recipients(a passphrase)"),
        }
    }
}

impl Recipients {
    /// Reads public keys, `age1…`, `ssh-ed25519 …` or `ssh-rsa …`, one a line. Empty lines and those that begin with
    /// `#` are passed over.
    ///
    /// # Errors
    /// Usage, naming the line, where one is no such key or there is none.
    pub fn parse(text: &str) -> Result<Self> {
        let mut keys: Vec<Box<dyn age::Recipient + Send + Sync>> = Vec::new();
        let lines = text.lines().map(str::trim).enumerate();
        for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            if let Ok(key) = line.parse::<age::x25519::Recipient>() {
                keys.push(Box::new(key));
            } else if let Ok(key) = line.parse::<age::ssh::Recipient>() {
                keys.push(Box::new(key));
            } else {
                // Whoever mixes the two up must not find the private one in a log.
                let error = Error::usage(format!("recipient {} is not a public key", number + 1));
                return Err(error.hint(match line.starts_with("AGE-SECRET-KEY-") {
                    true => "that is a private key: its public key stands beside it, and begins with age1",
                    false => "public keys are age1…, ssh-ed25519 … or ssh-rsa … (2048 bits or more)",
                }));
            }
        }
        match keys.is_empty() {
            true => Err(Error::usage("no recipient is named")
                .hint("lifeboat key generate makes a key, and prints its public half")),
            false => Ok(Self(Arc::new(To::Keys(keys)))),
        }
    }

    /// Whoever knows the passphrase.
    pub fn passphrase(passphrase: &str) -> Self {
        Self(Arc::new(To::Passphrase(SecretString::from(passphrase))))
    }

    fn encryptor(&self) -> Result<Encryptor> {
        match &*self.0 {
            To::Keys(keys) => {
                let keys = keys.iter().map(|key| &**key as &dyn age::Recipient);
                Encryptor::with_recipients(keys).or_fail(|| "cannot encrypt to these recipients")
            }
            To::Passphrase(passphrase) => Ok(Encryptor::with_user_passphrase(passphrase.clone())),
        }
    }

    /// Encrypts what is written to the result into `sink`.
    pub(super) fn wrap<W: Write>(&self, sink: W) -> Result<age::stream::StreamWriter<W>> {
        self.encryptor()?
            .wrap_output(sink)
            .or_fail(|| "cannot encrypt")
    }

    /// Encrypts something small.
    ///
    /// # Errors
    /// Failed where the recipients cannot be combined.
    pub fn encrypt(&self, plain: &[u8]) -> Result<Vec<u8>> {
        let mut writer = self.wrap(Vec::new())?;
        let written = writer.write_all(plain).and_then(|()| writer.finish());
        written.or_fail(|| "cannot encrypt")
    }
}

/// Who can open what is encrypted. Cheap to clone; empty by default.
#[derive(Clone, Default)]
pub struct Identities(Arc<Vec<Box<dyn age::Identity + Send + Sync>>>);

impl fmt::Debug for Identities {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Identities({})", self.0.len())
    }
}

/// Collects [`Identities`].
#[derive(Default)]
pub struct IdentityCollector(Vec<Box<dyn age::Identity + Send + Sync>>);

impl fmt::Debug for IdentityCollector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "IdentityCollector({})", self.0.len())
    }
}

impl IdentityCollector {
    /// Reads a file of age's private keys, or a private key of OpenSSH. `origin` says in messages where the text is
    /// from.
    ///
    /// # Errors
    /// Key, where the text holds no private key, or one that is protected by a passphrase.
    pub fn add(&mut self, text: &str, origin: &str) -> Result<()> {
        let wrong = |what: &str| Error::new(Kind::Key, format!("{origin} {what}"));
        if text.trim_start().starts_with("-----BEGIN") && text.contains("PRIVATE KEY") {
            return match age::ssh::Identity::from_buffer(text.as_bytes(), None) {
                Ok(key @ age::ssh::Identity::Unencrypted(_)) => {
                    self.0.push(Box::new(key));
                    Ok(())
                }
                Ok(age::ssh::Identity::Encrypted(_)) => Err(wrong("is protected by a passphrase")
                    .hint("give a copy without one: ssh-keygen -p -N '' -f COPY")),
                _ => Err(wrong("holds no SSH key that age can use")
                    .hint("ssh-ed25519 and ssh-rsa keys work")),
            };
        }
        if text.starts_with("age-encryption.org/") || text.contains("BEGIN AGE ENCRYPTED FILE") {
            return Err(wrong("is protected by a passphrase")
                .hint("age -d FILE prints it; a command can be given as the identity, too"));
        }
        let mut found = false;
        let lines = text.lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let key: age::x25519::Identity = line.parse().map_err(|_| {
                // Never the line itself: it may be a damaged key.
                wrong("holds a line that is no private key")
                    .hint("private keys begin with AGE-SECRET-KEY-1, or are OpenSSH's")
            })?;
            self.0.push(Box::new(key));
            found = true;
        }
        match found {
            true => Ok(()),
            false => Err(wrong("holds no private key")),
        }
    }

    /// Whoever knows the passphrase.
    pub fn add_passphrase(&mut self, passphrase: &str) {
        let mut identity = age::scrypt::Identity::new(SecretString::from(passphrase));
        identity.set_max_work_factor(MOST_WORK);
        self.0.push(Box::new(identity));
    }

    /// All of them.
    pub fn finish(self) -> Identities {
        Identities(Arc::new(self.0))
    }
}

/// The longest header that is read, in bytes and in lines: room for fifty RSA keys, which need the most. A file from an
/// enemy could have one without an end; age keeps all of it in memory, and reads it from the start with each new line.
const LONGEST_HEADER: u64 = 48 << 10;
const MOST_LINES: u64 = 800;

/// A source of which only so much may be read, until the bound is taken away.
struct Bounded<R> {
    inner: R,
    /// Bytes that may still be read.
    left: Arc<AtomicU64>,
    /// Lines that may still end.
    lines: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.load(Ordering::Relaxed);
        let is_header = left <= LONGEST_HEADER;
        if left == 0 || (is_header && self.lines == 0) {
            return Err(io::Error::other(Error::damaged(
                "what is encrypted begins with a header without an end",
            )));
        }
        let most = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let length = self.inner.read(&mut buffer[..most])?;
        self.left.store(left - length as u64, Ordering::Relaxed);
        if is_header {
            let ended = memchr::memchr_iter(b'\n', &buffer[..length]).count();
            self.lines = self.lines.saturating_sub(ended as u64);
        }
        Ok(length)
    }
}

impl Identities {
    fn open<R: Read>(&self, source: R) -> Result<age::stream::StreamReader<impl Read + use<R>>> {
        let left = Arc::new(AtomicU64::new(LONGEST_HEADER));
        let source = Bounded {
            inner: source,
            left: Arc::clone(&left),
            lines: MOST_LINES,
        };
        let decryptor = Decryptor::new_buffered(BufReader::new(source)).map_err(refused)?;
        left.store(u64::MAX, Ordering::Relaxed);
        let identities = self.0.iter().map(|one| &**one as &dyn age::Identity);
        if self.0.is_empty() {
            return Err(
                Error::new(Kind::Key, "it is encrypted, and no key is given").hint(
                    "--identity FILE, LIFEBOAT_IDENTITY_FILE or LIFEBOAT_PASSPHRASE gives one",
                ),
            );
        }
        decryptor.decrypt(identities).map_err(refused)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether they open what begins with these bytes: only its header is read.
    ///
    /// # Errors
    /// Key where they do not; damaged where that is no beginning of anything encrypted.
    pub fn check(&self, beginning: &[u8]) -> Result<()> {
        self.open(beginning).map(|_| ())
    }

    /// Decrypts something small, of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Identities::check`]; damaged where it is cut short, changed or too long.
    pub fn decrypt(&self, sealed: &[u8], limit: u64) -> Result<Vec<u8>> {
        let mut plain = Vec::new();
        let reader = self.open(sealed)?;
        reader
            .take(limit + 1)
            .read_to_end(&mut plain)
            .map_err(broken)?;
        match plain.len() as u64 > limit {
            true => Err(Error::damaged("more bytes are encrypted than there may be")),
            false => Ok(plain),
        }
    }
}

/// Why something cannot be opened: the wrong key, or no such thing.
fn refused(error: DecryptError) -> Error {
    let key = |what: &str| {
        Error::new(Kind::Key, what)
            .hint("lifeboat key check --identity FILE says whether a key opens a backup")
    };
    match error {
        DecryptError::NoMatchingKeys
        | DecryptError::KeyDecryptionFailed
        | DecryptError::DecryptionFailed => key("it is encrypted to another key"),
        DecryptError::ExcessiveWork { required, .. } => Error::damaged(format!(
            "its passphrase takes more work than is accepted (2^{required})"
        )),
        DecryptError::Io(error) => broken(error),
        other => Error::damaged("what is encrypted does not begin as it should")
            .caused_by(other.to_string()),
    }
}

/// An error of reading: lifeboat's own, or damage.
fn broken(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(own) => own,
        Err(error) => Error::damaged("what is encrypted was changed or cut short").caused_by(error),
    }
}

/// Decrypts a stored stream. The end is told only where the last encrypted piece says that it is the last.
///
/// Must be called within a tokio runtime.
pub fn decrypt(identities: &Identities) -> (Input, Output) {
    let identities = identities.clone();
    halves::through(move |pieces, mut outlet| {
        let mut reader = identities.open(Reading::new(pieces))?;
        let mut raw_size = 0;
        loop {
            let mut buffer = vec![0; PIECE];
            let length = fill(&mut reader, &mut buffer).map_err(broken)?;
            if length == 0 {
                break;
            }
            buffer.truncate(length);
            raw_size += length as u64;
            outlet.write(Bytes::from(buffer))?;
        }
        Ok(Measured {
            raw_size,
            stored_size: 0,
            inspection: Inspection {
                raw_size,
                facts: serde_json::Value::Null,
            },
        })
    })
}

/// As many bytes as the buffer takes, or as there are.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match reader.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Pieces that arrive, as something to read from.
struct Reading<'a> {
    pieces: &'a mut Pieces,
    at_hand: Bytes,
    ended: bool,
}

impl<'a> Reading<'a> {
    fn new(pieces: &'a mut Pieces) -> Self {
        Self {
            pieces,
            at_hand: Bytes::new(),
            ended: false,
        }
    }
}

impl Read for Reading<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at_hand.is_empty() && !self.ended {
            match self.pieces.next().map_err(io::Error::other)? {
                Some(bytes) => self.at_hand = bytes,
                None => self.ended = true,
            }
        }
        let length = self.at_hand.len().min(buffer.len());
        self.at_hand.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// A new private key, and its public half: the text of an age identity file, and the recipient in it.
pub fn generate_key(created: &str) -> (SecretString, String) {
    use secrecy::ExposeSecret;
    let identity = age::x25519::Identity::generate();
    let public = identity.to_public().to_string();
    let text = format!(
        "# created: {created}\n# public key: {public}\n{}\n",
        identity.to_string().expose_secret()
    );
    (SecretString::from(text), public)
}
