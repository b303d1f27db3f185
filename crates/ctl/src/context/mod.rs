//! Contexts: the clusters that a user knows, each with endpoints, CA, certificate and key, in
//! `$XDG_CONFIG_HOME/quorate/config.toml`. The file holds private keys: it is written with mode
//! 0600, at once or not at all. Tests: below.

mod key;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use key::{Key, pem};

use crate::client::{Environment, Identity};
use crate::exit::{Exit, Failure};

/// The contexts of one file.
#[derive(Debug)]
pub struct Contexts {
    path: Option<PathBuf>,
    file: File,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct File {
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default, rename = "context")]
    contexts: BTreeMap<String, Context>,
}

/// One cluster that this user knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// Where it can be reached.
    pub endpoints: Vec<String>,
    /// The cluster's CA, PEM.
    pub authority: String,
    /// The client's certificate, PEM.
    pub certificate: String,
    /// Its key, PEM.
    pub key: String,
}

impl Context {
    /// The identity that it holds.
    ///
    /// # Errors
    /// When what it holds can't be used.
    pub fn identity(&self, name: &str) -> Result<Identity, Failure> {
        Identity::from_pem(&self.authority, &self.certificate, &self.key).map_err(|error| {
            let cause = std::error::Error::source(&error)
                .map_or_else(String::new, |source| format!(": {source}"));
            Failure::new(Exit::Failed, format!("cannot use context {name}: {error}{cause}"))
                .hint("make it anew on a node: quorate context create NAME --output DIR")
        })
    }
}

impl Contexts {
    /// The contexts of this user.
    ///
    /// # Errors
    /// When the file is there and can't be read.
    pub fn of_user(environment: &Environment) -> Result<Self, Failure> {
        match environment.contexts_file() {
            Some(path) => Self::of_file(path),
            None => Ok(Self { path: None, file: File::default() }),
        }
    }

    /// The contexts of a file; one that isn't there holds none.
    ///
    /// # Errors
    /// When it is there and can't be read.
    pub fn of_file(path: PathBuf) -> Result<Self, Failure> {
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(failure("read", &path, &error)),
        };
        let file = toml::from_str(&text).map_err(|error| failure("read", &path, &error))?;
        Ok(Self { path: Some(path), file })
    }

    /// The context of this name, or the current one; `None` where none is named or current.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn chosen(&self, name: Option<&str>) -> Result<Option<(&str, &Context)>, Failure> {
        let Some(name) = name.or(self.file.current.as_deref()) else { return Ok(None) };
        let found = self.file.contexts.get_key_value(name);
        found
            .map(|(name, context)| Some((name.as_str(), context)))
            .ok_or_else(|| self.unknown(name))
    }

    fn unknown(&self, name: &str) -> Failure {
        let known: Vec<&str> = self.file.contexts.keys().map(String::as_str).collect();
        let hint = if known.is_empty() {
            "there is none yet: quorate context create NAME".to_owned()
        } else {
            format!("there is: {}", known.join(", "))
        };
        Failure::usage(format!("no context is named {name:?}")).hint(hint)
    }

    /// Every context with its name, and whether it is the current one.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Context, bool)> {
        let current = self.file.current.as_deref();
        self.file
            .contexts
            .iter()
            .map(move |(name, context)| (name.as_str(), context, current == Some(name.as_str())))
    }

    /// Refuses a name that is taken.
    ///
    /// # Errors
    /// When there is a context of this name.
    pub fn refuse_taken(&self, name: &str) -> Result<(), Failure> {
        if self.file.contexts.contains_key(name) {
            let path = self.path.as_deref().unwrap_or(Path::new("")).display();
            return Err(Failure::new(
                Exit::Failed,
                format!("there is a context {name} already, in {path}: it is not overwritten"),
            )
            .hint("choose another name"));
        }
        Ok(())
    }

    /// Adds a context, makes it the current one if there is none, and writes the file.
    ///
    /// # Errors
    /// When the name is taken or the file can't be written.
    pub fn add(&mut self, name: &str, context: Context) -> Result<&Path, Failure> {
        self.refuse_taken(name)?;
        self.file.contexts.insert(name.to_owned(), context);
        self.file.current.get_or_insert_with(|| name.to_owned());
        self.write()
    }

    /// Makes this context the current one, and writes the file.
    ///
    /// # Errors
    /// When there is none of that name or the file can't be written.
    pub fn choose(&mut self, name: &str) -> Result<(), Failure> {
        if !self.file.contexts.contains_key(name) {
            return Err(self.unknown(name));
        }
        self.file.current = Some(name.to_owned());
        self.write().map(|_| ())
    }

    fn write(&self) -> Result<&Path, Failure> {
        let path = self.path.as_deref().ok_or_else(|| {
            Failure::new(
                Exit::Failed,
                "cannot store contexts: neither XDG_CONFIG_HOME nor HOME is set",
            )
        })?;
        let text = toml::to_string(&self.file).map_err(|error| failure("write", path, &error))?;
        replace(path, &text).map_err(|error| failure("write", path, &error))?;
        Ok(path)
    }
}

/// Writes a whole file that nobody else may read, or leaves the old one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let temporary = directory.join(format!(".config.toml.{}", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // What failed above is what matters; the file may not even be there.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn failure(what: &str, path: &Path, error: &dyn std::error::Error) -> Failure {
    let error = error.to_string();
    Failure::new(Exit::Failed, format!("cannot {what} {}: {}", path.display(), error.trim_end()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn context(endpoint: &str) -> Context {
        Context {
            endpoints: vec![endpoint.to_owned()],
            authority: "CA\n".to_owned(),
            certificate: "CERT\n".to_owned(),
            key: "KEY\n".to_owned(),
        }
    }

    #[test]
    fn contexts_survive_the_file_and_the_first_is_current() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("quorate/config.toml");
        let mut contexts = Contexts::of_file(path.clone()).unwrap();
        assert_eq!(contexts.chosen(None).unwrap(), None);
        contexts.add("prod", context("a:1")).unwrap();
        contexts.add("test", context("b:2")).unwrap();

        let mut contexts = Contexts::of_file(path.clone()).unwrap();
        assert_eq!(contexts.chosen(None).unwrap(), Some(("prod", &context("a:1"))));
        assert_eq!(contexts.chosen(Some("test")).unwrap(), Some(("test", &context("b:2"))));
        contexts.choose("test").unwrap();
        assert_eq!(contexts.iter().filter(|(.., current)| *current).count(), 1);

        let contexts = Contexts::of_file(path.clone()).unwrap();
        assert_eq!(contexts.chosen(None).unwrap(), Some(("test", &context("b:2"))));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let entries = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(entries, 1, "a temporary file was left");
    }

    #[test]
    fn a_context_is_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        let mut contexts = Contexts::of_file(path.clone()).unwrap();
        contexts.add("prod", context("a:1")).unwrap();
        let before = fs::read_to_string(&path).unwrap();
        assert_eq!(contexts.add("prod", context("b:2")).unwrap_err().exit, Exit::Failed);
        assert_eq!(fs::read_to_string(&path).unwrap(), before);
    }

    #[test]
    fn an_unknown_context_is_a_usage_error_that_names_the_known_ones() {
        let directory = tempfile::tempdir().unwrap();
        let mut contexts = Contexts::of_file(directory.path().join("config.toml")).unwrap();
        contexts.add("prod", context("a:1")).unwrap();
        let failure = contexts.chosen(Some("prd")).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.to_string().contains("there is: prod"), "{failure}");
    }

    #[test]
    fn a_broken_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        fs::write(&path, "current = [\n").unwrap();
        let failure = Contexts::of_file(path.clone()).unwrap_err();
        assert!(failure.to_string().contains(path.to_str().unwrap()), "{failure}");
    }
}
