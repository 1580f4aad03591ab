//! What an ETag of the hub says of a file's content: SHA-256 for large files, git's SHA-1 of a blob for small ones.

use std::io::Read;
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// A sum that grows with the file.
#[derive(Clone)]
pub(super) enum Checksum {
    Sha256(Sha256),
    GitBlob(Sha1),
    /// The ETag is of another kind: a mirror's.
    Unknown,
}

impl Checksum {
    /// The sum of nothing yet, of the kind that the ETag is of.
    pub fn of(etag: &str, size: u64) -> Self {
        let is_hex = etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        match etag.len() {
            64 if is_hex => Self::Sha256(Sha256::new()),
            40 if is_hex => Self::GitBlob(Sha1::new_with_prefix(format!("blob {size}\0"))),
            _ => Self::Unknown,
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(sum) => sum.update(bytes),
            Self::GitBlob(sum) => sum.update(bytes),
            Self::Unknown => {}
        }
    }

    /// Adds what a file holds. Blocks.
    pub fn update_from(&mut self, path: &Path) -> std::io::Result<()> {
        if matches!(self, Self::Unknown) {
            return Ok(());
        }
        let mut file = std::fs::File::open(path)?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(()),
                count => self.update(&buffer[..count]),
            }
        }
    }

    /// Whether the whole file is what the ETag says.
    pub fn matches(self, etag: &str) -> bool {
        let sum = match self {
            Self::Sha256(sum) => hex(&sum.finalize()),
            Self::GitBlob(sum) => hex(&sum.finalize()),
            Self::Unknown => return true,
        };
        sum.eq_ignore_ascii_case(etag)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(etag: &str, content: &[u8]) -> bool {
        let mut sum = Checksum::of(etag, content.len() as u64);
        let (first, second) = content.split_at(content.len() / 2);
        sum.update(first);
        sum.update(second);
        sum.matches(etag)
    }

    #[test]
    fn both_kinds_of_the_hub_are_checked_and_a_mirrors_is_not() {
        // `echo hello | git hash-object --stdin`, and its SHA-256.
        assert!(matches("ce013625030ba8dba906f756967f9e9ca394464a", b"hello\n"));
        assert!(!matches("ce013625030ba8dba906f756967f9e9ca394464a", b"hello!"));
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert!(matches(sha256, b"hello\n"));
        assert!(!matches(sha256, b"hellO\n"));
        assert!(matches("5f3a-mirror", b"anything"));
    }
}
