//! Which backup a drill or a recovery takes, where none is named.

use crate::error::{Error, OrFail, Result, nearest};
use crate::repository::{Entry, Repository};
use crate::schedule::DrillChoice;

/// The backup of a stack that `choice` means: of the complete ones of the whole stack, where there are any, else of
/// those of a part of it. Without a stack, of the only one that the repository holds.
///
/// # Errors
/// Not found where there is none; usage where the repository holds several stacks.
pub async fn pick(
    repository: &Repository,
    stack: Option<&str>,
    choice: DrillChoice,
) -> Result<Entry> {
    let stacks = repository.stacks().await?;
    let stack = match (stack, &stacks[..]) {
        (Some(stack), _) => stack,
        (None, [only]) => only,
        (None, []) => {
            return Err(Error::not_found(format!(
                "{} holds no backup",
                repository.location()
            )));
        }
        (None, _) => {
            return Err(
                Error::usage("the repository holds several stacks: say which one")
                    .hint(format!("--stack STACK: {}", stacks.join(", "))),
            );
        }
    };
    if !stacks.is_empty() && !stacks.iter().any(|known| known == stack) {
        let near = nearest(stack, stacks.iter().map(String::as_str)).join(" or ");
        let error = Error::not_found(format!(
            "{} holds no backup of {stack:?}",
            repository.location()
        ));
        return Err(error.hint(match near.is_empty() {
            true => format!("it holds those of {}", stacks.join(", ")),
            false => format!("did you mean {near}?"),
        }));
    }
    let entries = repository.list(stack).await?;
    let part = |entry: &&Entry| {
        let commit = entry.commit.as_ref();
        entry.damaged.is_none() && commit.is_some_and(|commit| commit.complete)
    };
    let whole = |entry: &&Entry| {
        let commit = entry.commit.as_ref();
        commit.is_some_and(|commit| commit.only.is_empty())
    };
    let mut candidates: Vec<&Entry> = entries.iter().filter(part).filter(whole).collect();
    if candidates.is_empty() {
        candidates = entries.iter().filter(part).collect();
    }
    // Newest first, as they are listed.
    let index = match choice {
        DrillChoice::Newest => 0,
        DrillChoice::Oldest => candidates.len().saturating_sub(1),
        DrillChoice::Random => random_below(candidates.len())?,
    };
    candidates
        .get(index)
        .map(|entry| (*entry).clone())
        .ok_or_else(|| {
            Error::not_found(format!(
                "{} holds no complete backup of {stack}",
                repository.location()
            ))
            .hint("lifeboat list shows what there is; one that is named by its id is taken, of whatever kind it is")
        })
}

fn random_below(count: usize) -> Result<usize> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).or_fail(|| "the system gives no random numbers")?;
    let random = u64::from_be_bytes(random);
    let count = u64::try_from(count).unwrap_or(u64::MAX).max(1);
    Ok(usize::try_from(random % count).unwrap_or(0))
}
