//! Detects random text by its pairs of adjacent characters.
//!
//! Ids with three runs of digits are detected without this; it finds those with fewer, such as two thirds of
//! Meteor's.

use super::token::parts;

/// The minimum length of a part that is scored. Shorter ones are abbreviations, such as `k8s` and `i18n`.
const MIN_PART: usize = 5;
/// The weight at which a run of pairs counts as random. One in 2,500 package names has such a run, and so do
/// 99 in 100 ids of 17 letters and digits.
const RANDOM: i16 = 16;
/// The minimum number of pairs in such a run: more than `html2pdf` and `pbkdf2` have.
const MIN_PAIRS: usize = 8;
/// The digit in [`PAIRS`] for a pair that is as frequent in words as in random text.
const NEUTRAL: i16 = 4;
/// The weight of a letter next to a digit.
const DIGIT_STEP: i16 = 4;
/// The weight of an upper-case letter after a lower-case one.
const CAPITAL_STEP: i16 = 3;
/// How much less often a letter (column) follows another (row) in words than in random text, as a logarithm in
/// steps of 0.4. Counted in dictionaries of nine European languages, package names, program identifiers and
/// telephony terms; for each pair, the source with the highest frequency is used.
const PAIRS: [&[u8; 26]; 26] = [
    b"46329867267332859123447988",
    b"22840974269398179257399419",
    b"19473790274487279562599952",
    b"17950859195585089445587973",
    b"47544867366330859013667684",
    b"29961349189297199053498928",
    b"09570945299455299335395999",
    b"19890989274354098341495969",
    b"38340649946441377523868994",
    b"09441589593654338608373996",
    b"19981999285383099352467979",
    b"13851974167175279834379949",
    b"14851359199336049735399539",
    b"28524627097895398921789957",
    b"76544779494441459214370795",
    b"25571595399178029133599949",
    b"09899999999189689688099999",
    b"06750878296752279434579963",
    b"38271775392667449711479973",
    b"17790983168756259323584946",
    b"45451436335441849221676798",
    b"09470979199575199447469999",
    b"09692494197886379644599909",
    b"29383777389609519750659309",
    b"63166869754404729515992994",
    b"08560979395653279886296913",
];

/// Whether a text contains a run of characters that doesn't resemble words.
pub(super) fn contains_random(text: &[u8]) -> bool {
    let (mut weight, mut pairs) = (0, 0);
    let parts = parts(text).filter(|part| part.len() >= MIN_PART).map(without_version);
    for pair in parts.flat_map(|part| part.windows(2)) {
        weight = (weight + pair_weight(pair[0], pair[1])).max(0);
        pairs = if weight == 0 { 0 } else { pairs + 1 };
        if weight >= RANDOM && pairs >= MIN_PAIRS {
            return true;
        }
    }
    false
}

/// Strips a trailing number or version, which words have, too.
fn without_version(part: &[u8]) -> &[u8] {
    let end = part.iter().rposition(|byte| !byte.is_ascii_digit()).map_or(0, |last| last + 1);
    match &part[..end] {
        [name @ .., b'v' | b'V'] if end < part.len() => name,
        name => name,
    }
}

fn pair_weight(first: u8, second: u8) -> i16 {
    match (first.is_ascii_digit(), second.is_ascii_digit()) {
        (true, true) => 0,
        (true, false) | (false, true) => DIGIT_STEP,
        (false, false) if first.is_ascii_lowercase() && second.is_ascii_uppercase() => CAPITAL_STEP,
        (false, false) => {
            let at = |letter: u8| usize::from(letter.to_ascii_lowercase() - b'a');
            i16::from(PAIRS[at(first)][at(second)] - b'0') - NEUTRAL
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_letters_are_distinguished_from_words() {
        for (text, expected) in [
            ("QuFTMEWrPAXnwK", true),
            ("xzDpZLBmXZKqLn", true),
            ("call-xzDpZLBmXZKqLn-menu", true),
            ("qwcstxxuqzdbxxbdhgqpt", true),
            ("abcdefgh", false),
            ("xzDpZLBm", false),
            ("handleIncomingCallWebhook", false),
            ("handleDtmfInputV2", false),
            ("TwilioVoiceIVRWebhookHandler", false),
            ("rechtsschutzversicherung", false),
            ("przychodnia-rejestracja", false),
            ("i18n-l10n-a11y-k8s", false),
        ] {
            assert_eq!(contains_random(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_trailing_version_is_stripped() {
        for (part, expected) in
            [("voice2", "voice"), ("voiceV2", "voice"), ("v2", ""), ("2", ""), ("dev", "dev")]
        {
            assert_eq!(without_version(part.as_bytes()), expected.as_bytes(), "{part}");
        }
    }
}
