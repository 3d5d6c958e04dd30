"""Strings of the login form."""

from __future__ import annotations

from sdlora.core.text import Text

LOGIN = Text("Log in", "ログイン")
USER_NAME = Text("Name", "ユーザー名")
PASSWORD = Text("Password", "パスワード")
LOGIN_WRONG = Text("The password is not right.", "パスワードが違います。")
LOGIN_WAIT = Text(
    "Too many wrong passwords. Wait {seconds} seconds.", "パスワードの誤りが続きました。{seconds} 秒待ってください。"
)
