//! Looking at what a repository holds.

use crate::error::Result;
use crate::repository::{Entry, Repository};

/// The backups of `stack`, or of every stack; newest first within a stack.
pub async fn list(repository: &Repository, stack: Option<&str>) -> Result<Vec<Entry>> {
    let stacks = repository.stacks().await?;
    let Some(stack) = stack else {
        let mut entries = Vec::new();
        for stack in &stacks {
            entries.extend(repository.list(stack).await?);
        }
        return Ok(entries);
    };
    if !stacks.iter().any(|known| known == stack) {
        let near = crate::error::nearest(stack, stacks.iter().map(String::as_str)).join(" or ");
        let error = crate::error::Error::not_found(format!(
            "{} holds no backup of a stack {stack:?}",
            repository.location()
        ));
        return Err(match (near.is_empty(), stacks.is_empty()) {
            (false, _) => error.hint(format!("did you mean {near}?")),
            (true, true) => error.hint("it holds no backup at all yet: lifeboat backup makes one"),
            (true, false) => error.hint(format!("it holds backups of {}", stacks.join(", "))),
        });
    }
    repository.list(stack).await
}
