//! Which keys a table takes. One list per table is what the reader checks against, what
//! suggestions are made from, and what the reference page is tested against.

use super::suggest::nearest;

/// What happens when a key is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is an error.
    Required,
    /// Nothing is set.
    Optional,
    /// It is as if this had been written.
    Default(&'static str),
}

/// A key that a table takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What happens when it is left out.
    pub presence: Presence,
}

impl Key {
    /// A key that has to be given.
    #[must_use]
    pub const fn required(name: &'static str) -> Self {
        Self { name, presence: Presence::Required }
    }

    /// A key that may be left out.
    #[must_use]
    pub const fn optional(name: &'static str) -> Self {
        Self { name, presence: Presence::Optional }
    }

    /// A key that stands for `default` when left out.
    #[must_use]
    pub const fn with_default(name: &'static str, default: &'static str) -> Self {
        Self { name, presence: Presence::Default(default) }
    }
}

/// The keys of one table.
#[derive(Debug, Clone, Copy)]
pub struct TableKeys {
    /// The table as the reference page heads it: `[group.NAME]`.
    pub title: &'static str,
    /// The keys it takes.
    pub keys: &'static [Key],
    /// What other programs call a key, and what to write instead.
    pub foreign: &'static [(&'static str, &'static str)],
    /// Keys that a later version brings: refused now, by name.
    pub later: &'static [&'static str],
}

impl TableKeys {
    /// Whether the table takes this key.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.keys.iter().any(|known| known.name == key)
    }

    /// What is wrong with a key that the table does not take, and what to do.
    #[must_use]
    pub fn refuse(&self, key: &str) -> (String, String) {
        if let Some(&(name, instead)) = self.foreign.iter().find(|(name, _)| *name == key) {
            return (format!("unknown key {name:?}"), format!("write {instead} instead"));
        }
        if let Some(name) = self.later.iter().find(|name| **name == key) {
            return (
                format!("this version of Quorate does not have {name:?} yet"),
                "leave it out".to_owned(),
            );
        }
        let words = self.keys.iter().map(|known| known.name).chain(self.later.iter().copied());
        let help = match nearest(key, words) {
            Some(word) if self.has(word) => format!("did you mean {word:?}?"),
            Some(word) => {
                format!("did you mean {word:?}? this version of Quorate does not have it yet")
            }
            None => {
                let names: Vec<&str> = self.keys.iter().map(|known| known.name).collect();
                format!("{} takes: {}", self.title, names.join(", "))
            }
        };
        (format!("unknown key {:?}", shortened(key)), help)
    }
}

/// A text of the document as a message quotes it: never longer than a line.
pub(super) fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    if text.chars().nth(CHARS_MAX).is_none() {
        return text.to_owned();
    }
    text.chars().take(CHARS_MAX - 1).chain(['…']).collect()
}
