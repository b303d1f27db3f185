//! Tasks by what each is for: started and ended as a list of what is wanted changes.

use std::collections::{BTreeMap, BTreeSet};

use tokio::task::JoinHandle;

/// Tasks that run until they are wanted no more, or it is dropped.
#[derive(Debug)]
pub(crate) struct Tasks<K>(BTreeMap<K, JoinHandle<()>>);

impl<K> Default for Tasks<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Clone> Tasks<K> {
    /// Has a task for each of these and for no others; those that run already go on as they are.
    pub(crate) fn aim(&mut self, wanted: &BTreeSet<K>, start: impl Fn(K) -> JoinHandle<()>) {
        self.0.retain(|key, task| {
            let keep = wanted.contains(key);
            if !keep {
                task.abort();
            }
            keep
        });
        for key in wanted {
            if !self.0.contains_key(key) {
                self.0.insert(key.clone(), start(key.clone()));
            }
        }
    }
}

impl<K> Drop for Tasks<K> {
    fn drop(&mut self) {
        for task in self.0.values() {
            task.abort();
        }
    }
}
