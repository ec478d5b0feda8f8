//! Telling a Redis or Valkey service by what it is, never by its name alone.

use crate::docker::Engine;
use crate::docker::exec::Command;
use crate::error::Result;
use crate::stack::Service;

/// What the container's own description says: `Some` where it decides the matter.
///
/// The label `lifeboat.source` decides first, `lifeboat.enable=false` takes the container out, then the
/// variables that the images set (`REDIS_VERSION`, `VALKEY_VERSION`). Those of a sentinel or an exporter may
/// be built on the same image: what runs in it must be the server.
pub fn might_be_redis(service: &Service) -> Option<bool> {
    let label = |name: &str| service.labels.get(name).map(String::as_str);
    if label("lifeboat.enable") == Some("false") {
        return Some(false);
    }
    if let Some(source) = label("lifeboat.source") {
        return Some(source == "redis");
    }
    let command = service.command.join(" ");
    let serves = (command.contains("redis-server") || command.contains("valkey-server"))
        && !command.contains("sentinel");
    (serves && is_its_image(service)).then_some(true)
}

/// Whether the image sets the variables that images of Redis and Valkey set.
fn is_its_image(service: &Service) -> bool {
    ["REDIS_VERSION", "VALKEY_VERSION"]
        .iter()
        .any(|name| service.env.contains_key(*name))
}

/// Whether `service` is a Redis or Valkey server; where its description does not say, and its image's name
/// makes it worth asking, the container is asked whether it has a client and a server that answers.
pub async fn is_redis(engine: &Engine, service: &Service) -> Result<bool> {
    if let Some(decided) = might_be_redis(service) {
        return Ok(decided);
    }
    let named = |text: &str| text.contains("redis") || text.contains("valkey");
    let worth_asking = named(&service.image) || named(&service.name) || is_its_image(service);
    if !service.running || !worth_asking {
        return Ok(false);
    }
    // Any answer in the protocol will do: a server that wants a password is one. A sentinel says so itself.
    let ask = Command::new(
        "sh",
        [
            "-c",
            "cli=redis-cli; command -v $cli >/dev/null || cli=valkey-cli; \
             said=$($cli -h 127.0.0.1 -p \"${REDIS_PORT:-6379}\" PING 2>&1 </dev/null) || exit 1; \
             case $said in PONG|*NOAUTH*|*NOPERM*|*LOADING*) exit 0 ;; *) exit 1 ;; esac",
        ],
    );
    // An image without a shell or a client is no server that could be captured. Where the container may
    // not be asked, though, it may well be a server: its data must not be taken for plain files.
    let asked = engine.succeeds(&service.container_id, &ask).await;
    asked.map_err(|error| {
        error.while_doing(format!(
            "cannot find out whether service {} is a Redis or Valkey server",
            service.name
        ))
    })
}

/// Where a server has its data, as far as its container's description tells: a folder in the container.
pub fn data_folders(service: &Service) -> Vec<String> {
    let words: Vec<&str> = service
        .command
        .iter()
        .flat_map(|argument| argument.split_whitespace())
        .collect();
    let said = words
        .windows(2)
        .find(|pair| pair[0] == "--dir")
        .map(|pair| pair[1].to_owned());
    vec![said.unwrap_or_else(|| "/data".to_owned())]
}
