//! How bytes can travel between a source's container and lifeboat.

use crate::docker::Engine;
use crate::docker::exec::{Command, Transport};
use crate::error::Result;
use crate::pipeline::Incoming;
use crate::stack::{Compress, Service};

/// The highest compression level beside the data: higher ones take memory and time from the server (level 1
/// peaks at 17 MiB, 3 at 55, 19 at 350).
const HIGHEST_TRANSPORT_LEVEL: u8 = 3;

/// How a container can compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capability {
    zstd: bool,
    threads: u8,
}

impl Capability {
    /// Looks for zstd in the container, and how many threads it may take: never more than half of
    /// the container's CPU limit, and two at the most.
    pub async fn probe(engine: &Engine, service: &Service) -> Result<Self> {
        let probe = Command::new("sh", ["-c", "command -v zstd && nproc 2>/dev/null"]);
        let output = engine.run(&service.container_id, &probe).await?;
        let said = String::from_utf8_lossy(&output.stdout);
        let mut lines = said.lines();
        let zstd = lines.next().is_some_and(|path| path.ends_with("zstd"));
        let processors: i64 = lines
            .next()
            .and_then(|count| count.parse().ok())
            .unwrap_or(1);
        let threads = match service.nano_cpus {
            0 => processors.min(2),
            limit => limit / 2_000_000_000,
        };
        Ok(Self {
            zstd,
            threads: u8::try_from(threads.clamp(1, 2)).unwrap_or(1),
        })
    }

    /// How many programs may work side by side in the container.
    pub fn workers(self) -> usize {
        usize::from(self.threads)
    }

    /// How a captured stream comes out: compressed beside the data where that is wanted and possible, at
    /// `level` as far as a transport may take memory from the server.
    pub fn capture_transport(self, compress: Compress, level: u8) -> Transport {
        if self.zstd && compress == Compress::Beside {
            Transport::Zstd {
                level: level.clamp(1, HIGHEST_TRANSPORT_LEVEL),
                threads: self.threads,
            }
        } else {
            Transport::Raw
        }
    }

    /// How a stored stream goes back into the container.
    pub fn restore_transport(self) -> Transport {
        if self.zstd {
            Transport::Zstd {
                level: 1,
                threads: self.threads,
            }
        } else {
            Transport::Raw
        }
    }
}

/// How a stream arrives that came by `transport`.
pub(super) fn incoming(transport: Transport) -> Incoming {
    match transport {
        Transport::Raw => Incoming::Raw,
        Transport::Zstd { .. } => Incoming::Zstd,
    }
}
