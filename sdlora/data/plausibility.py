"""How much a text reads like one that somebody wrote: what tells one reading of the same bytes from another.

Points for each letter outside ASCII, from what wrong readings look like: half-width kana between letters, single kanji glued into a
Latin word, rare ideographs, accents in a row, Cyrillic capitals after small letters. The lists are the most frequent characters
of Japanese and of simplified Chinese; they only break ties between encodings whose ideographs fill the same bytes.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

COMMON_KANJI = frozenset(
    "日一国会人年大十二本中長出三同時政事自行社見月分議後前民生連五発間対上部東者党地合市業内相方四定今回新場金員九入選立開手米力学問高代明実円"
    "関決子動京全目表戦経通外最言氏現理調体化田当八六約主題下首意法不来作性的要用制治度務強気小七成期公持野協取都和統以機平総加山思家話世受区領"
    "多県続進正安設保改数記院女初北午指権心界支第産結百派点教報済書府活原先共得解名交資予川向際査勝面委告軍文反元重近千考判認画海参売利組知案道"
    "信策集在件団別物側任引使求所次水半品昨論計死官増係感特情投示変打男基私各始島直両朝革価式確村提運終挙果西勢減台広容必応演電歳住争談能無再位"
    "置企真流格有疑口過局少放税検藤町常校料沢裁状工建語球営空職証土与急止送援供可役構木割聴身費付施切由説転食比難防補車優夫研収断井何南石足違消"
    "境神番規術護展態導鮮備宅害配副算視条幹独警宮究育席輸訪楽起万着乗店述残想線率病農州武声質念待試族象銀域助労例衛然早張映限親額監環験追審商葉"
    "義伝働形景落欧担好退準賀訴辺造英被株頭技低毎医復仕去姿味負閣韓渡失移差衆個門写評課末守若脳極種美岡影命含福蔵量望松非撃佐核観察整段横融型白"
    "深字答夜製票況音申様財港識注呼渉達赤青緑黒黄紫桃茶髪瞳服帽笑顔猫犬花鳥魚馬雪雨風星空森海夕暮背絵紙袋靴眼鏡耳尾羽翼剣魔少娘姫君僕妹姉兄弟歌"
    "踊春夏秋冬朝昼晴雲虹浴衣着物制服水彩油画描線塗手足指唇胸腕立座寝走飛泣怒驚恥照構図逆光"
)
COMMON_HANZI = frozenset(
    "的一是不在有人这中大来上个国我以要他时用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多定行学法所民得经十三之进着等部度家电"
    "力里如水化高自二理起小物现实加量都两体制机当使点从业本去把性好应开它合还因由其些然前外天政四日那社义事平形相全表间样与关各重新线内数正心反你"
    "明看原又么利比或但质气第向道命此变条只没结解问意建月公无系军很情者最立代想已通并提直题党程展五果料象员革位入常文总次品式活设及管特件长求老头"
    "基资边流路级少图山统接知较将组见计别她手角期根论运农指几九区强放决西被干做必战先回则任取据处队南给色光门即保治北造百规热领七海口东导器压志世"
    "金增争济阶油思术极交受联认六共权收证改清己美再采转更单风切打白教速花带安场身车例真务具万每目至达走积示议声报斗完类八离华名确才科张信马节话米"
    "整空元况今集温传土许步群广石记需段研界拉林律叫且究观越织装影算低持音众书布复容儿须际商非验连断深难近矿千周委素技备半办青省列习响约支般史感劳"
    "便团往酸历市克何除消构府称太准精值号率族维划选标写存候毛亲快效斯院查江型眼王按格养易置派层片始却专状育厂京识适属圆包火住调满县局照参红细引听"
    "该铁价严龙飞裙发帽笑脸猫狗鸟鱼树雪雨云星夜背景绿黑黄蓝紫粉衣服鞋袜戴穿站坐躺跑哭剑魔法女孩男孩"
)
_TYPOGRAPHY = frozenset("‘’“”–—…•«»‹›‚„†°©®™€£×")
_COMMON_LATIN = frozenset("äöüßÄÖÜéèêëàâáãåçñíìîïóòôõúùûøæœÉÈÀÁÇÑÓÚØÆÅšžčřěůąęłńśźżőűćđ¡¿ºª")
_FULLWIDTH = frozenset("、。，．・：；？！「」『』（）【】〜～ー々〆ヶ　《》〈〉“”‘’…―")


_CJK = ("kana", "ideograph", "fullwidth", "halfwidth")


def plausibility(text: str, language: str) -> float:
    """The sum of points of all characters outside ASCII, as text in `language` ("ja", "zh", "cjk" = either, "ko", "ru", "" = Latin letters).

    A double-byte character stands for two bytes and earns about twice as much as a single one.
    """
    padded = f" {text} "
    return sum(
        _points(letter, padded[i], padded[i + 2], language)
        for i, letter in enumerate(text)
        if letter >= "\x80" or (letter < " " and letter not in "\t\r\n\f\v")
    )


def usual_share(text: str) -> float:
    """The share of ASCII, kana, CJK punctuation and frequent ideographs."""
    usual = ("ascii", "kana", "fullwidth")
    count = sum(_script(letter) in usual or letter in COMMON_KANJI or letter in COMMON_HANZI for letter in text)
    return count / max(1, len(text))


@lru_cache(maxsize=65536)
def _points(letter: str, before: str, after: str, language: str) -> float:
    """Of one character between its neighbours."""
    if unicodedata.category(letter) in ("Cc", "Cn", "Co", "Cs"):
        return -5.0
    script, neighbours = _script(letter), (_script(before), _script(after))
    if script in ("kana", "ideograph"):
        return _cjk_points(letter, before, after, language)
    if script == "halfwidth":
        return (2.5 if language in ("ja", "cjk") else 0.0) if neighbours == (script, script) else -0.5
    if script == "hangul":
        return (3.0 if script in neighbours else 0.5) if language == "ko" else -2.0
    if script == "cyrillic":
        if language != "ru" or _is_latin(before) or _is_latin(after) or (before.islower() and letter.isupper()):
            return -3.0
        return 1.0 + 0.5 * letter.islower() if script in neighbours else -1.0
    if letter in _FULLWIDTH and (neighbours[0] in _CJK or neighbours[1] in _CJK):
        return 4.0 if language in ("ja", "zh", "cjk", "ko") else -1.0
    if letter in _TYPOGRAPHY:
        apart = before == after == " "
        return 0.3 if apart else 1.5 if before.isascii() and after.isascii() else -0.5
    return _latin_points(letter, before, after) if script == "latin" or letter in "¿¡ºª" else -1.0


def _cjk_points(letter: str, before: str, after: str, language: str) -> float:
    glued = _is_latin(before) or _is_latin(after)
    if glued and _script(before) not in _CJK and _script(after) not in _CJK:
        return -4.0  # one alone at a Latin letter is two bytes of Latin text misread
    if _script(letter) == "kana":
        return 5.0 if language in ("ja", "cjk") else -1.0
    common = (language != "zh" and letter in COMMON_KANJI) or (language != "ja" and letter in COMMON_HANZI)
    return 3.0 if common else 0.8 if "\u4e00" <= letter <= "\u9fff" else -3.0


def _latin_points(letter: str, before: str, after: str) -> float:
    if (before.islower() and letter.isupper()) or (before >= "\x80" and _script(before) != "latin"):
        return -2.0
    if letter not in _COMMON_LATIN:
        return -0.5
    if (before >= "\x80" and before.isalpha()) or (after >= "\x80" and after.isalpha()):
        return 0.3  # two accents in a row are rare
    return 1.5 if _is_latin(before) or _is_latin(after) else 0.5


def _is_latin(letter: str) -> bool:
    return letter.isascii() and letter.isalpha()


@lru_cache(maxsize=65536)
def _script(letter: str) -> str:
    if letter.isascii():
        return "ascii"
    if "\u3041" <= letter <= "\u30ff" and letter != "・":
        return "kana"
    if "\u3400" <= letter <= "\u9fff" or "\uf900" <= letter <= "\ufaff" or "\U00020000" <= letter <= "\U0003ffff":
        return "ideograph"
    if "\uff66" <= letter <= "\uff9f":
        return "halfwidth"
    if "\uac00" <= letter <= "\ud7a3":
        return "hangul"
    if letter in _FULLWIDTH or "\uff01" <= letter <= "\uff5e":
        return "fullwidth"
    name = unicodedata.name(letter, "")
    return "cyrillic" if name.startswith("CYRILLIC") else "latin" if name.startswith("LATIN") else "other"
