//! Reads configurations, and remembers the last: the node that is asked to have one applied reads it
//! to check it, and as the log brings it back. Fifty thousand real servers take a while.

use std::sync::{Arc, Mutex, PoisonError};

use quorate_model::command::Digest;
use quorate_model::spec::{self, ClusterSpec, Diagnostics, Format};

use crate::identity::authority::sha256;

/// A text by its digest, and what it says.
#[derive(Debug, Default)]
pub(crate) struct Reader(Mutex<Option<(Digest, Format, Arc<ClusterSpec>)>>);

impl Reader {
    /// What [`spec::parse`] says of the text; the same text is read once.
    pub(crate) fn read(
        &self,
        source: &str,
        format: Format,
    ) -> Result<Arc<ClusterSpec>, Diagnostics> {
        let digest = sha256(source.as_bytes());
        // What it guards is replaced as a whole: a panic elsewhere leaves it whole.
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, _, spec)) =
            known().as_ref().filter(|(d, f, _)| (*d, *f) == (digest, format))
        {
            return Ok(Arc::clone(spec));
        }
        let spec = Arc::new(spec::parse(source, format)?);
        *known() = Some((digest, format, Arc::clone(&spec)));
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_is_read_once_and_another_is_not_taken_for_it() {
        let reader = Reader::default();
        let read = |source: &str, format| reader.read(source, format);
        let one = read("cluster.sync_warmup = \"7s\"", Format::Toml).unwrap();
        assert!(Arc::ptr_eq(&one, &read("cluster.sync_warmup = \"7s\"", Format::Toml).unwrap()));
        assert_ne!(one, read("cluster.sync_warmup = \"8s\"", Format::Toml).unwrap());
        assert!(read("cluster.sync_warmup = \"7s\"", Format::Json).is_err());
        assert!(read("rubbish", Format::Toml).is_err());
        // A text that can't be read is not remembered.
        assert!(read("rubbish", Format::Toml).is_err());
    }
}
