"""Texts that tell pre-tokenizers apart, beside those that are awkward for any tokenizer."""

from tools.golden.references.strings import STRINGS

_NUMBERS = [
    *("0123456789"[:n] for n in range(1, 10)),
    "a  1 b   12 c 123  d1234 5678901",
    "abc1234 5678 x90",
    "(12345)67 +8901234567 3.14159265 1,234,567.89",
    "1½2 ½12345½ 345½678½9 ⅷ12 ²³1234",
    "١٢٣٤٥٦٧ 𝟘𝟙𝟚𝟛 12٣٤5",
    "v1.22.333.4444-55555 №77777 0x12ab34",
    "  1  22  333  4444  ",
    "\n1\n22\n\n333\n \n4444\n",
]
_LETTERS = [
    "helloWorld HTMLParser's iPhoneX ABCdefGHI aBcD XMLHttpRequest",
    "ǅabc ǈubav ʰa ªb ᾈx",
    "don't DON'T We'Ve they'rE I'M o'clock 'tis rock'n'roll x'S'T 'sa",
    "Ankara'da Türkiye'nin İstanbul'dan",
    "İSTANBUL ẞ Σίσυφος ΣΑΣ ŉ",
    "e\u0301a e\u0301E\u0301 \u0301a \u0301\u0302b q\u0323\u0307",
    "हिन्दी में क्षत्रिय বাংলা తెలుగు",
    "สวัสดีครับ ภาษาไทย ລາວ ខ្មែរ မြန်မာ",
    "한국어ㄱㄴㄷ안녕 ㅏㅓ ㅁㅁ 각",
    "ㄅㄆㄇㄈ注音 漢字かなカナ混じり。々〆ヶ ｶﾅ",
    "，。“引用”…——！？、；：‘单’ 《书》",
    "豈更車 \u9fd5龥 𠀀𪜀𫝀 㐀㒀 ꀀꀁ ꓐꓑ ⼀⼁ 〇",
    "abc漢字def 漢's 漢字's字",
    "\ue000\ue001 private \U000f0000",
]
_SYMBOLS = [
    "!word ?Word .a .A _snake_case __init__ -x --yes a-b #tag @user $HOME",
    "a/b//c/// \n/x ../y\n/ .../\n",
    "...\n\n!!!\r\n\r\n???\n \n",
    " . , ; : ! ?  ..  ,,  (a) [b] {c} <d> |e|",
    "a=b; c+=d<<2 && e||!f ^ ~g % `h`",
    "$€£¥ ©®™ ±×÷ °C → ∀x∈ℝ ⌘ ☃ ♥",
    "<sentinel:12><sentinel:a>x IMGIMGABCZ IMGIMGABCDEZ",
    "\ta    b      c         d\t\te    \n",
    "(．.,!?…。，、।۔،) x|y\\z",
]
_SPACES = [
    "a\n\n\nb\r\rc\r\n\r\nd \n e\t\n\tf",
    "x  \n  y   \n\n   z    ",
    "a\u0085b\u00a0c\u1680d\u2003e\u2028f\u205fg\u3000h \u2003 i",
    "\u2003\u2003a \u00a0 b\u3000\u3000",
    "\x0b\x0c\x1c\x1f a\u200bb\u200c\u200dc\ufeffd",
    "\ufeffabc \ufeff",
    "    ",
    "\t\t\t\t\n\n\n\n",
    "1" + " " * 40 + "x" + "\n" * 20 + "y",
]
_SPECIALS = [
    "<mask>",
    "  <mask>  b",
    "a <mask> b \t<mask>\n\nc<mask>",
    "<ud>x <ud> <ude <u",
    "<s>a</s> b<pad>",
    "[PAD5] [PAD 5] <0x41> <0xE2>",
    "<dna>ACGTACacgtaGGG</dna>tail <dna>NNACGTAC",
    "a<dna></dna>b</dna> <dna>ACGTÄC<dna>ACG</dna><oov>",
    "▁a ▁▁b▁ c▁d",
    "Ｆｕｌｌ ｗｉｄｔｈ ﬁne ﬂow Å Å Ａ１ ① ½ ℌ ㌔",
]
TEXTS = [*STRINGS, *_NUMBERS, *_LETTERS, *_SYMBOLS, *_SPACES, *_SPECIALS]
