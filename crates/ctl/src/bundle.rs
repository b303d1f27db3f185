//! An archive of texts for somebody who helps: a tar, and what is taken out of a text before it goes in.
//! Pure; `command::support_bundle` collects. Tests: below.

/// Largest text that goes in; of a longer one its end, which is the newest of a log.
pub const TEXT_BYTES_MAX: usize = 8 << 20;
/// A name in a tar is at most so long (ustar, POSIX.1-1988).
const NAME_BYTES_MAX: usize = 100;
const BLOCK: usize = 512;

/// Keys whose values are nobody's business, wherever they end a word.
const SECRET_WORDS: [&str; 7] =
    ["password", "passwd", "passphrase", "secret", "token", "auth_pass", "private_key"];
/// What stands in place of what was taken out.
const REDACTED: &str = "[redacted]";
/// What join tokens begin with.
const JOIN_TOKEN: &str = "quorate1.";

/// A text without private keys, passwords, tokens, and without what stands before the `@` of an address.
#[must_use]
pub fn redacted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for line in text.lines() {
        if line.contains("-----BEGIN") && line.contains("PRIVATE KEY-----") {
            inside = true;
            out.push_str(REDACTED);
            out.push('\n');
        }
        if !inside {
            out.push_str(&of_line(line));
            out.push('\n');
        }
        if line.contains("-----END") {
            inside = false;
        }
    }
    out
}

/// Of each `key = value`, `key: value` and `--key value` in it, the value of a key that says it is a secret.
fn of_line(line: &str) -> String {
    let line = of_address(&of_tokens(line));
    let mut out = String::with_capacity(line.len());
    let mut rest = line.as_str();
    while let Some((word, after)) = next_word(rest) {
        let (before, _) = rest.split_at(rest.len() - after.len());
        out.push_str(before);
        rest = after;
        if !is_secret(word) {
            continue;
        }
        let gap = rest.len() - rest.trim_start_matches(is_between).len();
        let (between, value) = rest.split_at(gap);
        // "the token was used" is a sentence.
        let given = between.contains(['=', ':']) || before.contains("--");
        if between.is_empty() || value.is_empty() || !given {
            continue;
        }
        let quote = between.chars().last().filter(|c| matches!(c, '"' | '\''));
        let end = value.find(|c: char| match quote {
            Some(quote) => c == quote || c == '&',
            None => c.is_whitespace() || matches!(c, '"' | '\'' | ',' | '&' | '}'),
        });
        out.push_str(between);
        out.push_str(REDACTED);
        rest = value.get(end.unwrap_or(value.len())..).unwrap_or_default();
    }
    out + rest
}

/// What may stand between a key and its value.
fn is_between(c: char) -> bool {
    c.is_whitespace() || matches!(c, '=' | ':' | '"' | '\'' | ',')
}

/// The next word, and what follows it.
fn next_word(text: &str) -> Option<(&str, &str)> {
    let of_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let begin = text.find(of_word)?;
    let (_, from) = text.split_at(begin);
    let end = from.find(|c: char| !of_word(c)).unwrap_or(from.len());
    Some(from.split_at(end))
}

fn is_secret(word: &str) -> bool {
    let word = word.to_ascii_lowercase().replace('-', "_");
    SECRET_WORDS.iter().any(|secret| word.ends_with(secret))
}

/// Words that are join tokens.
fn of_tokens(line: &str) -> String {
    let mut rest = line;
    let mut out = String::new();
    while let Some((before, after)) = rest.split_once(JOIN_TOKEN) {
        let end = after.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_'));
        out.push_str(before);
        out.push_str(REDACTED);
        rest = after.get(end.unwrap_or(after.len())..).unwrap_or_default();
    }
    out + rest
}

/// `https://ada:pw@host` loses `ada:pw`.
fn of_address(line: &str) -> String {
    let Some((before, after)) = line.split_once("://") else { return line.to_owned() };
    let end = after.find(|c: char| c == '/' || c.is_whitespace()).unwrap_or(after.len());
    let (host, rest) = after.split_at(end);
    let host = match host.rsplit_once('@') {
        Some((_, host)) => format!("{REDACTED}@{host}"),
        None => host.to_owned(),
    };
    format!("{before}://{host}{}", of_address(rest))
}

/// The end of a text that is too long, from a line's beginning on.
#[must_use]
pub fn bounded(text: String) -> String {
    if text.len() <= TEXT_BYTES_MAX {
        return text;
    }
    let mut from = text.len() - TEXT_BYTES_MAX;
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let tail = text.get(from..).unwrap_or_default();
    let tail = tail.split_once('\n').map_or(tail, |(_, rest)| rest);
    format!("[the beginning is left out: no more than {TEXT_BYTES_MAX} bytes go in]\n{tail}")
}

/// A tar (ustar) of texts by name, each for its owner alone to read.
///
/// # Errors
/// Where a name is too long for a tar.
pub fn tar(files: &[(String, String)], modified_s: u64) -> Result<Vec<u8>, String> {
    let mut archive = Vec::new();
    for (name, text) in files {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(format!("{name:?} is no name for a file in a tar"));
        }
        archive.extend(header(name, text.len(), modified_s));
        archive.extend(text.as_bytes());
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    // Two empty blocks end it.
    archive.resize(archive.len() + 2 * BLOCK, 0);
    Ok(archive)
}

fn header(name: &str, length: usize, modified_s: u64) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(field) = header.get_mut(at..at + bytes.len()) {
            field.copy_from_slice(bytes);
        }
    };
    put(0, name.as_bytes());
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{length:011o}\0").as_bytes());
    put(136, format!("{modified_s:011o}\0").as_bytes());
    // The sum is made as if its own field were spaces.
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    if let Some(field) = header.get_mut(148..156) {
        field.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_passwords_tokens_and_the_user_of_an_address_are_taken_out() {
        let text = "name = \"lb1\"\nauth_pass = \"x1\"\n  \"api_token\": \"x2\",\nsmtp.password: x3\n\
            -----BEGIN EC PRIVATE KEY-----\nx4\n-----END EC PRIVATE KEY-----\n\
            command = [\"/usr/bin/page\", \"--team\", \"network\"]\n\
            url http://ada:x5@host/a and ftp://x6@other\n\
            joined with quorate1.x7abc_d-e, at once\ncertificate = \"/etc/ssl/lb1.pem\"\n\
            check = { type = \"http\", path = \"/health?token=x8&full=1\", interval = \"1s\" }\n\
            command = [\"/usr/lib/check_db\", \"--password=x9\", \"--passwd\", \"x10\", \"--db\"]\n\
            20:41:47 lb1 quorated: /health?api-token=x11: 503\n\
            {\"kind\":\"real_server_down\",\"secret\":\"x12\",\"at\":1}\nmysql --password x13 -e 1\n";
        let out = redacted(text);
        for secret in 1..=13 {
            assert!(!out.contains(&format!("x{secret}")), "x{secret}: {out}");
        }
        for kept in [
            "name = \"lb1\"\n",
            "command = [\"/usr/bin/page\", \"--team\", \"network\"]\n",
            "http://[redacted]@host/a and ftp://[redacted]@other\n",
            "joined with [redacted], at once\n",
            "certificate = \"/etc/ssl/lb1.pem\"\n",
            "/health?token=[redacted]&full=1\", interval = \"1s\" }\n",
            "\"--password=[redacted]\", \"--passwd\", \"[redacted]\", \"--db\"]\n",
            "20:41:47 lb1 quorated: /health?api-token=[redacted]",
            "\"secret\":\"[redacted]\",\"at\":1}\n",
        ] {
            assert!(out.contains(kept), "{kept}: {out}");
        }
        assert_eq!(redacted(&out), out, "once is enough");
    }

    #[test]
    fn an_ordinary_configuration_comes_through_as_it_is() {
        let example = include_str!("../../../examples/web.toml");
        assert_eq!(redacted(example), example);
    }

    #[test]
    fn of_a_long_text_the_end_is_kept_from_a_line_on() {
        let long = "€ line\n".repeat(TEXT_BYTES_MAX / 8);
        assert!(long.len() > TEXT_BYTES_MAX);
        let short = bounded(long);
        assert!(short.len() <= TEXT_BYTES_MAX + 100);
        assert!(short.starts_with("[the beginning is left out: "));
        assert!(short.lines().skip(1).all(|line| line == "€ line"));
        assert_eq!(bounded("a".to_owned()), "a");
    }

    #[test]
    fn a_name_that_a_tar_can_not_hold_is_refused() {
        let named = |name: &str| tar(&[(name.to_owned(), String::new())], 0);
        assert!(named(&"a".repeat(101)).is_err() && named("").is_err());
        assert_eq!(named("a").unwrap().len(), 3 * 512);
    }

    #[test]
    fn tar_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("b.tar");
        let texts = [("b/one.txt", "1".repeat(600)), ("b/two.txt", String::new())];
        let texts = texts.map(|(name, text)| (name.to_owned(), text));
        std::fs::write(&file, tar(&texts, 1_760_000_000).unwrap()).unwrap();
        let run = std::process::Command::new("tar")
            .args(["-xf", "b.tar"])
            .current_dir(folder.path())
            .status()
            .unwrap();
        assert!(run.success());
        let read = |name| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("b/one.txt"), "1".repeat(600));
        assert_eq!(read("b/two.txt"), "");
    }
}
