"""The shop's pages."""

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path

VERSION = "first"


def index(request: HttpRequest) -> HttpResponse:
    return render(request, "index.html", {"version": VERSION})


urlpatterns = [path("", index), path("admin/", admin.site.urls)]
