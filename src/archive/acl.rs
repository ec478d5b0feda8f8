//! Access control lists: the kernel's binary form on the disk, text in an archive.
//!
//! The text is what `star`, GNU tar and bsdtar put into `SCHILY.acl.*` records; GNU tar loses the binary form
//! (measured). Users and groups are numbers here: names mean nothing on another machine.

/// The attribute that holds a thing's list.
pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute that holds the list for what will be made in a folder.
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";

/// The version of the kernel's form (`POSIX_ACL_XATTR_VERSION`).
const VERSION: u32 = 2;
/// What stands where an entry has no number (`ACL_UNDEFINED_ID`).
const NOBODY: u32 = u32::MAX;

/// Tags as the kernel numbers them, and the words for them.
const TAGS: [(u16, &str, bool); 6] = [
    (0x01, "user", false),
    (0x02, "user", true),
    (0x04, "group", false),
    (0x08, "group", true),
    (0x10, "mask", false),
    (0x20, "other", false),
];

/// `user::rw-,user:1000:r--,…`; `None` for what is no list.
pub(super) fn to_text(list: &[u8]) -> Option<String> {
    let (version, entries) = list.split_at_checked(4)?;
    if u32::from_le_bytes(version.try_into().ok()?) != VERSION || entries.len() % 8 != 0 {
        return None;
    }
    let mut parts = Vec::new();
    for entry in entries.chunks_exact(8) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let permissions = u16::from_le_bytes([entry[2], entry[3]]);
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let (_, word, numbered) = TAGS.into_iter().find(|(known, ..)| *known == tag)?;
        let id = if numbered {
            id.to_string()
        } else {
            String::new()
        };
        let letter = |bit, letter| if permissions & bit == 0 { '-' } else { letter };
        let (read, write, execute) = (letter(4, 'r'), letter(2, 'w'), letter(1, 'x'));
        parts.push(format!("{word}:{id}:{read}{write}{execute}"));
    }
    Some(parts.join(","))
}

/// The kernel's form of a list, from commas or lines, with numbers in the second or (as `star` has it) the fourth
/// place; `None` where it is no list or names somebody by a name only.
pub(super) fn from_text(text: &str) -> Option<Vec<u8>> {
    let mut entries = Vec::new();
    for part in text.split([',', '\n']) {
        // What follows the entry is a remark on its effective rights.
        let part = part.split('#').next().unwrap_or_default().trim();
        if part.is_empty() {
            continue;
        }
        let fields: Vec<&str> = part.split(':').collect();
        let (word, name, permissions) = match fields[..] {
            [word, name, permissions] => (word, name, permissions),
            [word, _, permissions, id] => (word, id, permissions),
            // `mask:rwx` and `other:rwx`, the short form.
            [word @ ("mask" | "m" | "other" | "o"), permissions] => (word, "", permissions),
            _ => return None,
        };
        let word = match word {
            "u" => "user",
            "g" => "group",
            "m" => "mask",
            "o" => "other",
            other => other,
        };
        let numbered = !name.is_empty();
        let (tag, ..) = TAGS
            .into_iter()
            .find(|(_, known, with)| *known == word && *with == numbered)?;
        let id = if numbered { name.parse().ok()? } else { NOBODY };
        let mut bits = 0_u16;
        for letter in permissions.chars() {
            bits |= match letter {
                'r' => 4,
                'w' => 2,
                'x' => 1,
                '-' => 0,
                _ => return None,
            };
        }
        entries.push((tag, id, bits));
    }
    if entries.is_empty() {
        return None;
    }
    // The kernel wants them so.
    entries.sort_unstable();
    let mut list = VERSION.to_le_bytes().to_vec();
    for (tag, id, bits) in entries {
        list.extend_from_slice(&tag.to_le_bytes());
        list.extend_from_slice(&bits.to_le_bytes());
        list.extend_from_slice(&id.to_le_bytes());
    }
    Some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_come_back_from_every_dialect() {
        let plain = "user::rw-,user:1000:r-x,group::r--,group:7:---,mask::r-x,other::---";
        let list = from_text(plain).unwrap();
        assert_eq!(to_text(&list).as_deref(), Some(plain));
        let star = "user::rw-\nuser:joe:r-x:1000\ngroup::r--\ngroup:g:---:7\nmask::r-x\t#effective\nother::---\n";
        assert_eq!(from_text(star), Some(list.clone()));
        assert_eq!(
            from_text("u::rw-,u:1000:r-x,g::r--,g:7:---,m:r-x,o:---"),
            Some(list)
        );
        for wrong in ["", "user:joe:rwx", "user::rwz", "king::rwx", "user"] {
            assert_eq!(from_text(wrong), None, "{wrong}");
        }
        assert_eq!(to_text(&[1, 0, 0, 0]), None);
        assert_eq!(to_text(&[2, 0, 0, 0, 1]), None);
    }
}
