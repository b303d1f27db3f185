//! "Did you mean": the known word that is nearest to one that is not known.

/// Longest word that is compared: past it nobody mistyped a key of ours.
const WORD_CHARS_MAX: usize = 40;

/// The one of `known` that `word` most likely was meant to be, if any is near enough: at most a
/// third of its letters differ. Upper and lower case count as equal.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let word = lower(word)?;
    let mut best: Option<(usize, &str)> = None;
    for candidate in known {
        let Some(letters) = lower(candidate) else { continue };
        let allowed = (word.len().max(letters.len()) / 3).max(1);
        let distance = distance(&word, &letters);
        // A word of one or two letters is near to all others of its kind.
        let all_differ = distance >= word.len().max(letters.len());
        if distance <= allowed && !all_differ && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

fn lower(word: &str) -> Option<Vec<char>> {
    let letters: Vec<char> =
        word.chars().take(WORD_CHARS_MAX + 1).map(|c| c.to_ascii_lowercase()).collect();
    (letters.len() <= WORD_CHARS_MAX).then_some(letters)
}

/// Edit distance with exchanged neighbours counted once (optimal string alignment): `wieght` is
/// one step from `weight`.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &y) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(x != y);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}
