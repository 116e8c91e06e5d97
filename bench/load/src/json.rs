//! Text as programs send it: records of a shop that never was, as JSON. It compresses as such text does.

use crate::payload::mix;

const NAMES: [&str; 8] = ["Ada", "Grace", "Linus", "Barbara", "Ken", "Radia", "Edsger", "Hedy"];
const CITIES: [&str; 8] = ["Lisbon", "Oslo", "Nairobi", "Kyoto", "Lima", "Tartu", "Quebec", "Dresden"];
const STATES: [&str; 4] = ["created", "paid", "shipped", "returned"];
const WORDS: [&str; 16] = [
    "please",
    "leave",
    "the",
    "parcel",
    "with",
    "neighbours",
    "ring",
    "twice",
    "behind",
    "garden",
    "door",
    "before",
    "noon",
    "call",
    "first",
    "thanks",
];

/// The same text each time, of some length: a record of about 300 bytes after the other, no two alike.
pub fn text(length: usize) -> Vec<u8> {
    let mut text = String::new();
    for number in 0.. {
        if text.len() >= length {
            break;
        }
        text += &record(number);
    }
    text.truncate(length);
    text.into_bytes()
}

fn record(number: u64) -> String {
    // Other numbers for every use.
    let mut uses = 0;
    let mut below = |limit: u64| {
        uses += 1;
        mix(number << 8 | uses) % limit
    };
    let id = 100_000 + below(900_000);
    let (hour, minute, second) = (below(24), below(60), below(60));
    let (name, city, state) = (NAMES[below(8) as usize], CITIES[below(8) as usize], STATES[below(4) as usize]);
    let items: Vec<String> = (0..1 + below(3))
        .map(|_| {
            let (article, quantity, price) = (below(10_000), 1 + below(5), below(20_000));
            format!(
                r#"{{"article":"A-{article:04}","quantity":{quantity},"price":{}.{:02}}}"#,
                price / 100,
                price % 100
            )
        })
        .collect();
    let note: Vec<&str> = (0..3 + below(8)).map(|_| WORDS[below(16) as usize]).collect();
    format!(
        r#"{{"id":{id},"type":"order.{state}","time":"2026-03-{:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z","customer":{{"name":"{name}","city":"{city}","regular":{}}},"items":[{}],"note":"{}"}},"#,
        1 + below(28),
        below(1000),
        below(2) == 0,
        items.join(","),
        note.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_json_each_time() {
        let whole = text(10_000);
        assert_eq!(whole.len(), 10_000);
        assert_eq!(text(500), whole[..500]);
        let list = (0..20).map(record).collect::<String>();
        let parsed: Vec<serde_json::Value> =
            serde_json::from_str(&format!("[{}]", list.trim_end_matches(','))).unwrap();
        assert_eq!(parsed.len(), 20);
        assert!(parsed.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
