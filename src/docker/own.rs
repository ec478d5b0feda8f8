//! Containers that lifeboat needs for its own work: it would saw off the branch that it sits on.

use crate::stack::Service;

/// Whether a container is lifeboat's own, or reaches the engine, as a socket proxy does: such a one is never stopped
/// for a restore.
pub fn works_with_engine(service: &Service) -> bool {
    let own = std::fs::read_to_string("/proc/self/mountinfo")
        .is_ok_and(|mounts| is_inside(&mounts, &service.container_id));
    own || runs_lifeboat(service) || has_socket(service)
}

/// The engine mounts files of its own into every container, from a folder with the container's id.
fn is_inside(mounts: &str, container_id: &str) -> bool {
    !container_id.is_empty() && mounts.contains(&format!("/containers/{container_id}/"))
}

fn runs_lifeboat(service: &Service) -> bool {
    let program = service.command.first().map(String::as_str);
    program.is_some_and(|program| program.rsplit('/').next() == Some("lifeboat"))
}

fn has_socket(service: &Service) -> bool {
    service.mounts.iter().any(|mount| {
        let folder = mount.folder.as_deref().unwrap_or_default();
        folder.ends_with("/docker.sock")
            || matches!(folder, "/run" | "/var/run")
            || mount.destination.ends_with("/docker.sock")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_knows_the_container_that_it_is_in() {
        let mounts = "636 602 254:1 /var/lib/docker/containers/0123abcd/resolv.conf /etc/resolv.conf rw - ext4 /dev/vda1 rw\n";
        assert!(is_inside(mounts, "0123abcd"));
        assert!(!is_inside(mounts, "0123") && !is_inside(mounts, ""));
    }
}
