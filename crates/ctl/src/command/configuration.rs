//! A configuration in a file and the one in force: what `apply` and `diff` both start from.

use std::io::Read as _;

use quorate_api::v1;
use quorate_model::spec::{self, ClusterSpec, Format};

use super::Scene;
use crate::client::{Admin, Client, Kind};
use crate::exit::{Exit, Failure};

/// A file, read and found right as far as this machine can tell.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) source: String,
    pub(super) format: Format,
    pub(super) spec: ClusterSpec,
}

impl Candidate {
    /// Reads and checks a file, or stdin for `-`.
    pub(super) fn read(file: &str) -> Result<Self, Failure> {
        let source = read_text(file)?;
        let shown = if file == "-" { "<stdin>" } else { file };
        let format = format_of(file, &source);
        Self::checked(shown, source, format)
    }

    /// A text that this program made.
    pub(super) fn of(source: String, format: Format) -> Result<Self, Failure> {
        Self::checked("what would be in force", source, format)
    }

    fn checked(shown: &str, source: String, format: Format) -> Result<Self, Failure> {
        match spec::parse(&source, format) {
            Ok(spec) => Ok(Self { source, format, spec }),
            Err(diagnostics) => {
                let report = diagnostics.render(shown, &source);
                let what = format!("{shown} is no right configuration\n{}", report.trim_end());
                Err(Failure::new(Exit::Failed, what).hint("nothing was applied: correct the file"))
            }
        }
    }

    /// The request that has the cluster take it, or only check it.
    pub(super) fn request(&self, dry_run: bool) -> v1::ApplyRequest {
        let format = match self.format {
            Format::Toml => v1::Format::Toml,
            Format::Json => v1::Format::Json,
        };
        v1::ApplyRequest {
            source: self.source.clone(),
            format: format.into(),
            expected_revision: None,
            request_id: Vec::new(),
            dry_run,
            confirm_ms: None,
            message: String::new(),
        }
    }
}

/// A file and the configuration in force, read side by side: either may be long.
pub(super) async fn both(
    scene: &Scene<'_>,
    file: &str,
) -> Result<(Candidate, Client, InForce), Failure> {
    let file = file.to_owned();
    let reading = tokio::task::spawn_blocking(move || Candidate::read(&file));
    let candidate =
        async { reading.await.map_err(|error| Failure::new(Exit::Failed, error.to_string()))? };
    // What is wrong in the file comes before where the cluster is.
    let client = match scene.cluster() {
        Ok(client) => client,
        Err(failure) => {
            candidate.await?;
            return Err(failure);
        }
    };
    let (candidate, in_force) = tokio::join!(candidate, InForce::read(&client));
    Ok((candidate?, client, in_force?))
}

/// A file's text, or stdin's for `-`.
pub(super) fn read_text(file: &str) -> Result<String, Failure> {
    let text = if file == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    let shown = if file == "-" { "<stdin>" } else { file };
    text.map_err(|error| Failure::new(Exit::Failed, format!("cannot read {shown}: {error}")))
}

/// By its name, else by how it begins: no TOML document begins with a brace.
pub(super) fn format_of(file: &str, source: &str) -> Format {
    let extension = std::path::Path::new(file).extension().and_then(|text| text.to_str());
    match extension {
        Some("json") => Format::Json,
        Some("toml") => Format::Toml,
        _ if source.trim_start().starts_with('{') => Format::Json,
        _ => Format::Toml,
    }
}

/// The configuration in force, or an earlier one.
#[derive(Debug)]
pub(super) struct InForce {
    pub(super) revision: u64,
    /// As it was applied; empty at revision 0.
    pub(super) source: String,
    pub(super) format: Format,
    /// Absent if this program can't read it, being older than what applied it.
    pub(super) spec: Option<ClusterSpec>,
    /// Who applied it when, and what became of it.
    pub(super) info: v1::RevisionInfo,
}

impl InForce {
    pub(super) async fn read(client: &Client) -> Result<Self, Failure> {
        Self::of(client, None).await
    }

    /// The configuration of an earlier revision.
    pub(super) async fn of(client: &Client, revision: Option<u64>) -> Result<Self, Failure> {
        let call = |mut admin: Admin| async move {
            admin.get_configuration(v1::GetConfigurationRequest { revision }).await
        };
        let what = match revision {
            None => "read the configuration in force".to_owned(),
            Some(revision) => format!("read revision {revision}"),
        };
        let answer = client.call(Kind::Read, &what, call).await?.body;
        let format = match answer.format() {
            v1::Format::Json => Format::Json,
            v1::Format::Toml | v1::Format::Unspecified => Format::Toml,
        };
        let spec = if answer.revision == 0 {
            Some(ClusterSpec::default())
        } else {
            spec::parse(&answer.source, format).ok()
        };
        let (revision, info) = (answer.revision, answer.info.unwrap_or_default());
        Ok(Self { revision, source: answer.source, format, spec, info })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_follows_the_name_and_then_the_first_character() {
        assert_eq!(format_of("a.json", "x = 1"), Format::Json);
        assert_eq!(format_of("a.toml", "{"), Format::Toml);
        assert_eq!(format_of("-", " \n{ \"group\": {} }"), Format::Json);
        assert_eq!(format_of("-", "[group.web]"), Format::Toml);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let failure = Candidate::read("/nowhere/web.toml").unwrap_err();
        assert_eq!(failure.exit, Exit::Failed);
        assert!(failure.to_string().contains("/nowhere/web.toml"), "{failure}");
    }
}
