//! What an HTTP check asks, and which answers are good ones; the words are those of
//! keepalived.conf(5), HTTP_GET and SSL_GET.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};

/// Most memory that a pattern may take once it is compiled.
const PATTERN_BYTES_MAX: usize = 256 * 1024;

/// How an HTTP server is probed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HttpCheck {
    /// How it is spoken to by TLS; `None`: in clear.
    pub tls: Option<Tls>,
    /// Which version of HTTP is spoken.
    pub version: HttpVersion,
    /// What is asked, one after the other, each on a connection of its own; never empty.
    pub requests: Vec<HttpRequest>,
}

/// A version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HttpVersion {
    /// HTTP/1.0 (RFC 1945).
    Http10,
    /// HTTP/1.1 (RFC 9112).
    Http11,
}

/// One request, and what its answer must be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HttpRequest {
    /// The method.
    pub method: HttpMethod,
    /// Path and query.
    pub path: String,
    /// The Host header; `None`: where it connects to.
    pub host: Option<String>,
    /// The good status codes.
    pub status: StatusCodes,
    /// What the body must be.
    pub digest: Option<BodyDigest>,
    /// What must be in the body.
    pub body: Option<Pattern>,
    /// What must not be in it.
    pub body_absent: Option<Pattern>,
}

/// A method that a check asks by: those that change nothing (RFC 9110, section 9.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HttpMethod {
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// OPTIONS.
    Options,
}

impl HttpMethod {
    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
        }
    }
}

/// Status codes, as ranges with both ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StatusCodes(pub Vec<(u16, u16)>);

impl StatusCodes {
    /// Whether this one is among them.
    #[must_use]
    pub fn has(&self, code: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&code))
    }
}

impl Default for StatusCodes {
    /// 200 to 299.
    fn default() -> Self {
        Self(vec![(200, 299)])
    }
}

impl fmt::Display for StatusCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "," })?;
            match first == last {
                true => write!(f, "{first}")?,
                false => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

/// The digest of a whole body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BodyDigest {
    /// SHA-256 (FIPS 180-4).
    Sha256([u8; 32]),
    /// MD5 (RFC 1321), as genhash(1) prints it: to compare with what was, not to trust.
    Md5([u8; 16]),
}

impl fmt::Display for BodyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, bytes): (&str, &[u8]) = match self {
            Self::Sha256(bytes) => ("sha256", bytes),
            Self::Md5(bytes) => ("md5", bytes),
        };
        write!(f, "{word} ")?;
        bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A regular expression that can be compiled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern(String);

/// A pattern, compiled. A clone shares what it took.
#[derive(Debug, Clone)]
pub struct Matcher(Regex);

impl Matcher {
    /// Whether it is found anywhere in these bytes. It may take a while in many.
    #[must_use]
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.0.is_match(bytes)
    }
}

impl Pattern {
    /// Takes a regular expression, in the syntax of the `regex` crate.
    ///
    /// # Errors
    /// With the reason, where it is none, or would take too much memory.
    pub fn new(text: &str) -> Result<Self, String> {
        Self::compiled(text).map(|_| Self(text.to_owned()))
    }

    /// The pattern, ready to be looked for.
    ///
    /// # Errors
    /// As [`Self::new`], by which it was found to be one.
    pub fn compile(&self) -> Result<Matcher, String> {
        Self::compiled(&self.0)
    }

    fn compiled(text: &str) -> Result<Matcher, String> {
        match compile(text) {
            Ok(regex) => Ok(Matcher(regex)),
            Err(regex::Error::CompiledTooBig(_)) => {
                Err("it would take more than 256 KiB of memory".to_owned())
            }
            // Its text draws a picture of several lines, of which the last says what is wrong.
            Err(error) => {
                let text = error.to_string();
                let last = text.lines().next_back().unwrap_or_default();
                Err(last.trim().trim_start_matches("error: ").to_owned())
            }
        }
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn compile(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX).build()
}

/// How TLS is spoken to a real server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Tls {
    /// The name of the server, which it is told (SNI), and which its certificate must bear where
    /// that is looked at; `None`: the one of the Host header where it is a name, and else none.
    pub sni: Option<String>,
    /// Whether its certificate must be one to trust.
    pub verify: bool,
    /// The file of the authorities that are trusted, in PEM, on every director; `None`: the system's.
    pub ca: Option<String>,
    /// The files of the director's own certificate and key, in PEM, on every director.
    pub identity: Option<(String, String)>,
}

impl fmt::Display for HttpCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tls, version, requests } = self;
        f.write_str(if tls.is_some() { "https" } else { "http" })?;
        if *version == HttpVersion::Http10 {
            f.write_str(" 1.0")?;
        }
        for (index, request) in requests.iter().enumerate() {
            write!(f, "{} {request}", if index == 0 { "" } else { "," })?;
        }
        tls.as_ref().map_or(Ok(()), |tls| write!(f, "{tls}"))
    }
}

impl fmt::Display for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, path, host, status, digest, body, body_absent } = self;
        write!(f, "{} {path}", method.word())?;
        if let Some(host) = host {
            write!(f, " host {host}")?;
        }
        write!(f, " status {status}")?;
        if let Some(digest) = digest {
            write!(f, " {digest}")?;
        }
        if let Some(pattern) = body {
            write!(f, " with {:?}", pattern.as_str())?;
        }
        if let Some(pattern) = body_absent {
            write!(f, " without {:?}", pattern.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Display for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sni, verify, ca, identity } = self;
        if let Some(sni) = sni {
            write!(f, " sni {sni}")?;
        }
        if *verify {
            write!(f, " verified by {}", ca.as_deref().unwrap_or("the system"))?;
        }
        if let Some((certificate, _)) = identity {
            write!(f, " as {certificate}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_codes_are_those_of_the_ranges_and_no_others() {
        let codes = StatusCodes(vec![(200, 299), (401, 401)]);
        let has = [199, 200, 299, 300, 400, 401, 402].map(|code| codes.has(code));
        assert_eq!(has, [false, true, true, false, false, true, false]);
        assert_eq!(codes.to_string(), "200-299,401");
    }

    #[test]
    fn a_pattern_is_one_that_compiles_in_little_memory() {
        assert!(Pattern::new("(?i)ok|fine").unwrap().compile().unwrap().is_in(b"\xffall FINE"));
        assert!(!Pattern::new("^ok$").unwrap().compile().unwrap().is_in(b"not ok"));
        assert_eq!(Pattern::new("(ok"), Err("unclosed group".to_owned()));
        let large = Pattern::new("(\\w{100}){100}").unwrap_err();
        assert!(large.contains("256 KiB"), "{large}");
    }
}
