//! Tests that generated ids become `:id` and that names made of words stay.

use super::super::*;

const DIGITS: &str = "0123456789";
const LOWER: &str = "0123456789abcdefghijklmnopqrstuvwxyz";
const BASE62: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const BASE64: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-";
const BASE58: &str = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const METEOR: &str = "23456789ABCDEFGHJKLMNPQRSTWXYZabcdefghijkmnopqrstuvwxyz";
const CROCKFORD: &str = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const XID: &str = "0123456789abcdefghijklmnopqrstuv";
const HEX: &str = "0123456789abcdef";

/// The number of ids tested per generator.
const IDS: usize = 2_000;

/// Per generator: its prefix, alphabet, number of characters, and how many of [`IDS`] may stay. Short ids can't
/// always be distinguished from words, so more of them may stay.
const GENERATORS: [(&str, &str, &str, usize, usize); 25] = [
    ("Meteor", "", METEOR, 17, 20),
    ("Meteor behind a word", "call-", METEOR, 17, 20),
    ("ULID", "01J", CROCKFORD, 23, 1),
    ("TypeID", "user_01j", XID, 23, 2),
    ("cuid", "cm7", LOWER, 22, 5),
    ("cuid2", "c", LOWER, 23, 5),
    ("cuid2 behind a word", "user_c", LOWER, 23, 5),
    ("xid", "cs", XID, 18, 20),
    ("KSUID", "2", BASE62, 26, 2),
    ("nanoid", "", BASE64, 21, 30),
    ("nanoid of 16", "", BASE64, 16, 120),
    ("Firebase push id", "-O", BASE64, 18, 50),
    ("Firestore", "", BASE62, 20, 10),
    ("short UUID", "", METEOR, 22, 5),
    ("base58 of a UUID", "", BASE58, 22, 5),
    ("base64url of a UUID", "", BASE64, 22, 30),
    ("Salesforce", "00Q", BASE62, 15, 30),
    ("Stripe", "pi_3", BASE62, 23, 3),
    ("old Stripe", "cus_", BASE62, 14, 100),
    ("TSID", "0", CROCKFORD, 12, 60),
    ("MongoDB", "6", HEX, 23, 0),
    ("MD5", "", HEX, 32, 0),
    ("snowflake", "1", DIGITS, 18, 0),
    ("order", "order-", DIGITS, 8, 0),
    ("primary key", "4", DIGITS, 4, 0),
];

#[test]
fn generated_ids_become_id() {
    let mut random = fastrand::Rng::with_seed(17);
    let mut wrong = Vec::new();
    for (name, before, alphabet, length, may_stay) in GENERATORS {
        let alphabet: Vec<char> = alphabet.chars().collect();
        let raw: Vec<String> = (0..IDS)
            .map(|_| (0..length).map(|_| alphabet[random.usize(..alphabet.len())]).collect())
            .map(|id: String| format!("{before}{id}"))
            .filter(|id| [id.clone(), format!("{id}.xml")].iter().any(|id| stays(id)))
            .collect();
        if raw.len() > may_stay {
            wrong.push(format!("{name}: {} of {IDS}, such as {:?}", raw.len(), raw.first()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn names_stay_even_with_a_number_or_version() {
    let mut random = fastrand::Rng::with_seed(17);
    let names = (0..20_000).map(|_| name(&mut random));
    let wrong: Vec<String> = names.filter(|name| !stays(name)).collect();
    // One in thousands of names with many abbreviations doesn't resemble words.
    assert!(wrong.len() <= 5, "{}: {:?}", wrong.len(), &wrong[..wrong.len().min(20)]);
}

/// Returns a name that an application may give to a webhook.
fn name(random: &mut fastrand::Rng) -> String {
    const WORDS: &str = "voice twilio ivr menu call callback status dial gather record recording \
        dtmf sms twiml webhook inbound outbound agent queue conference transfer fallback handler \
        stream hangup voicemail whisper hold enqueue support sales billing english spanish press \
        option step level http xml json api rest sip login verify lambda azure prod staging test \
        east west north south app web bot flow studio flex task worker event hook notify survey \
        payment appointment reminder booking hotel clinic pharmacy versicherung zahlung rueckruf \
        accueil bienvenida atendimento rejestracja rechtsschutz przychodnia";
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut chosen: Vec<String> =
        (0..random.usize(1..=4)).map(|_| words[random.usize(..words.len())].to_owned()).collect();
    let style = random.u8(..4);
    if style >= 2 {
        for word in chosen.iter_mut().skip(usize::from(style == 2)) {
            let first = word.remove(0).to_ascii_uppercase();
            word.insert(0, first);
        }
    }
    let name = chosen.join(["-", "_", "", ""][usize::from(style)]);
    let number = random.u8(1..100);
    match random.u8(..5) {
        0 => format!("{name}{number}"),
        1 => format!("{name}V{}", number % 10),
        2 => format!("{name}-v{}.{number}", number % 10),
        3 => format!("{}{number}-{name}", words[random.usize(..words.len())]),
        _ => name,
    }
}

fn stays(segment: &str) -> bool {
    let url = format!("https://a.example/ivr/{segment}/menu");
    let endpoint = Routes::default().endpoint(&WebhookUrl::parse(&url).expect("valid URL"));
    !endpoint.route.contains(PLACEHOLDER)
}
